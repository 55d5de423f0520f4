//! What Mimecast does besides what its pages say: some of it in a part of the worlds, nothing in the others.

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use simulator::mimecast::{DatesWithToken, Doubts, LastPage, Order, Totals};

use crate::plan::pick;

/// How Mimecast behaves in a world.
#[derive(Default)]
pub struct Upstream {
    /// What lasts, in calm weather too.
    pub doubts: Doubts,
    /// All listing tokens die now and then.
    pub dying: bool,
    /// Listings lose some of the files for a while.
    pub hiding: bool,
    /// How likely a listing has its token in another form.
    pub forms: f64,
    /// How likely something in between answers with a page of its own.
    pub between: f64,
    /// A late row comes during every run, and for some time in calm weather too.
    pub late: bool,
    /// The world begins shortly before the day changes.
    pub evening: bool,
}

impl Upstream {
    /// Draws one: nothing in half of the worlds, and in the others what concerns their sources (`listed`: by date and token).
    pub fn draw(rng: &mut Rng, listed: bool) -> Self {
        if rng.bool() {
            return Self::default();
        }
        let once_in = |rng: &mut Rng, of: u8| rng.u8(..of) == 0;
        let rate = |rng: &mut Rng| *pick(rng, &[0.0, 0.0, 0.05, 0.3]);
        let totals = totals(rng);
        let by_arrival = once_in(rng, 4);
        let windows = Self {
            doubts: Doubts {
                totals,
                order: if by_arrival { Order::Arrival } else { Order::Time },
                last_page: last_page(rng),
                page_cap: page_cap(rng),
                ..Doubts::default()
            },
            between: rate(rng),
            late: once_in(rng, 3),
            evening: rng.bool(),
            ..Self::default()
        };
        if !listed {
            return windows;
        }
        let doubts = Doubts {
            end_required: once_in(rng, 4),
            sealed_tokens: once_in(rng, 3),
            dates_with_token: dates_with_token(rng),
            dead_tokens_caught_up: *pick(rng, &[Some(true), Some(false), None]),
            oldest_day_refused: once_in(rng, 4),
            ..windows.doubts
        };
        Self { doubts, dying: once_in(rng, 4), hiding: once_in(rng, 4), forms: rate(rng), ..windows }
    }

    /// A token may be sealed or dead and yet say that there is nothing more.
    pub fn tokens_mislead(&self) -> bool {
        let Doubts { sealed_tokens, dead_tokens_caught_up, .. } = self.doubts;
        sealed_tokens || ((self.dying || self.forms > 0.0) && dead_tokens_caught_up == Some(true))
    }

    /// Until when a file that is published now is hidden, if it is.
    pub fn hides(&self, rng: &mut Rng, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (self.hiding && rng.u8(..3) == 0).then(|| now + TimeDelta::minutes(rng.i64(10..120)))
    }

    /// In a few words; nothing in a calm world.
    pub fn shown(&self) -> String {
        let Doubts { end_required, dates_with_token, sealed_tokens, dead_tokens_caught_up, .. } = self.doubts;
        let Doubts { totals, order, last_page, page_cap, .. } = &self.doubts;
        let words = [
            (end_required, "end required".to_owned()),
            (dates_with_token != DatesWithToken::Allowed, format!("dates with token {dates_with_token:?}")),
            (sealed_tokens, "sealed tokens".to_owned()),
            (self.doubts.oldest_day_refused, "oldest day refused".to_owned()),
            (self.dying, "dying tokens".to_owned()),
            (self.dying || self.forms > 0.0, format!("dead ones say {dead_tokens_caught_up:?}")),
            (self.forms > 0.0, format!("forms of tokens {}", self.forms)),
            (self.hiding, "hidden files".to_owned()),
            (*totals != Totals::Right, format!("totals {totals:?}")),
            (*order != Order::Time, "lists by arrival".to_owned()),
            (*last_page != LastPage::Ends, format!("last page {last_page:?}")),
            (page_cap.is_some(), format!("pages of at most {}", page_cap.unwrap_or_default())),
            (self.between > 0.0, format!("pages of something in between {}", self.between)),
            (self.late, "late rows".to_owned()),
            (self.evening, "evening".to_owned()),
        ];
        let words: Vec<String> = words.into_iter().filter_map(|(is, word)| is.then(|| format!(", {word}"))).collect();
        words.concat()
    }
}

fn dates_with_token(rng: &mut Rng) -> DatesWithToken {
    use DatesWithToken::{Allowed, Refused, Required};
    *pick(rng, &[Allowed, Allowed, Refused, Required])
}

fn totals(rng: &mut Rng) -> Totals {
    let errors = [vec![3], vec![1 << 40], vec![0, -1], vec![0, 2, 0, 700], vec![-1_000_000, 0, 40]];
    match rng.u8(..12) {
        0 => Totals::Absent,
        1 => Totals::Text,
        2 => Totals::NeverZero,
        3 | 4 => Totals::Off(pick(rng, &errors).clone()),
        _ => Totals::Right,
    }
}

fn last_page(rng: &mut Rng) -> LastPage {
    use LastPage::{Ends, LeadsTo400, LeadsTo404, LeadsToEmpty};
    let leads_on = rng.u8(..4) == 0;
    if leads_on { *pick(rng, &[LeadsToEmpty, LeadsTo404, LeadsTo400]) } else { Ends }
}

/// Below what is asked for by default, and often below what is asked for in this world.
fn page_cap(rng: &mut Rng) -> Option<usize> {
    (rng.u8(..4) == 0).then(|| *pick(rng, &[1, 2, 3, 5, 30]))
}
