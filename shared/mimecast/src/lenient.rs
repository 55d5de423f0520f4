//! Members that steer a reading (totals, tokens, flags) in whatever type an answer has them: a number in quotes must not stop
//! a source.

use serde_json::Value;

/// The largest whole number of which a float still holds every unit.
const LARGEST_FLOAT: f64 = 9_007_199_254_740_992.0;

/// A text that is not blank, as it is, or a number as text.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A whole number that is not negative: as such, as a float or as text.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(exact)),
        Value::String(text) => text.trim().parse().ok().or_else(|| text.trim().parse().ok().and_then(exact)),
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds that are checked")]
fn exact(float: f64) -> Option<u64> {
    (float.fract() == 0.0 && (0.0..LARGEST_FLOAT).contains(&float)).then_some(float as u64)
}

/// `true`, be it as text.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(is) => *is,
        Value::String(text) => text.trim().eq_ignore_ascii_case("true"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_read_in_every_spelling_and_nothing_else_is() {
        for (value, expected) in [
            (json!(7), Some(7)),
            (json!(7.0), Some(7)),
            (json!("7"), Some(7)),
            (json!(" 7.0 "), Some(7)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!(7.5), None),
            (json!(-1), None),
            (json!("-1"), None),
            (json!(1e300), None),
            (json!("NaN"), None),
            (json!(""), None),
            (json!(null), None),
            (json!([7]), None),
        ] {
            assert_eq!(whole(&value), expected, "{value}");
        }
    }

    #[test]
    fn flags_and_tokens_are_read_in_every_spelling() {
        assert!([json!(true), json!("true"), json!("TRUE")].iter().all(is_true));
        assert!(![json!(false), json!("yes"), json!(null), json!(1), json!("")].iter().any(is_true));
        assert_eq!(text(&json!("NDU1NA==")).as_deref(), Some("NDU1NA=="));
        assert_eq!(text(&json!(4554)).as_deref(), Some("4554"));
        for none in [json!(""), json!(" \t"), json!(null), json!(false), json!({}), json!([])] {
            assert_eq!(text(&none), None, "{none}");
        }
    }
}
