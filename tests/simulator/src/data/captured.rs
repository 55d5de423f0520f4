//! Events captured elsewhere, one JSON object a line, put into the simulated account unchanged.

use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::text::compact;
use super::{DASHBOARD_TABLE, Expected, FEED_TABLE, SUMMARY_TABLE, rows, siem};
use crate::mimecast::Mimecast;

/// Loads the files of a folder that are named after a source: `audit.jsonl` and the other time-window sources,
/// `messageholdsummary.jsonl`, `dashboard.jsonl`, `siem_v1_<file prefix>.jsonl`, `siem_v2_<type>.jsonl` (both served by
/// both APIs) and `threatfeed.stix_bundle.jsonl` (seen by STIX downloads only); others are left out. The events' own
/// times are old, so rows are filed under times spread over `from` to `to`. Errors: a file that cannot be read.
pub fn captured(mimecast: &Mimecast, folder: &Path, from: DateTime<Utc>, to: DateTime<Utc>) -> io::Result<Expected> {
    let mut expected = Expected::new();
    let mut paths: Vec<_> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jsonl")) else { continue };
        let Some((table, push)) = target(name) else { continue };
        let content = Bytes::from(fs::read(&path)?);
        let lines = content.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let lines: Vec<Vec<u8>> = lines.filter(|line| !line.trim_ascii().is_empty()).map(<[u8]>::to_vec).collect();
        let lines = if let Target::Stix = push { objects(&lines)? } else { lines };
        let known = expected.entry(table.to_owned()).or_default();
        known.extend(lines.iter().map(|line| String::from_utf8_lossy(&compact(line)).into_owned()));
        let count = i32::try_from(lines.len()).unwrap_or(i32::MAX).saturating_add(1);
        let texts = || lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        match push {
            Target::Rows(source) => {
                for (index, line) in (1..).zip(&lines) {
                    mimecast.push(source, from + (to - from) / count * index, line);
                }
            }
            Target::Siem(kind) => mimecast.push_siem_at(&kind, to, lines),
            Target::Summary => mimecast.set_summary(texts()),
            Target::Dashboard => mimecast.set_notices(texts()),
            Target::Stix => mimecast.push_stix("malware_customer", to, lines),
        }
    }
    Ok(expected)
}

enum Target {
    Rows(&'static str),
    Siem(String),
    Summary,
    Dashboard,
    Stix,
}

fn target(name: &str) -> Option<(&'static str, Target)> {
    if let Some(source) = rows::source(name) {
        return Some((source.table, Target::Rows(source.name)));
    }
    let kind = match name {
        "messageholdsummary" => return Some((SUMMARY_TABLE, Target::Summary)),
        "dashboard" => return Some((DASHBOARD_TABLE, Target::Dashboard)),
        "threatfeed.stix_bundle" => return Some((FEED_TABLE, Target::Stix)),
        "siem_v1_jrnl" => "journal".to_owned(),
        "siem_v1_iep" => "internal email protect".to_owned(),
        "siem_v1_impersonation" => "impersonation protect".to_owned(),
        "siem_v1_spameventthread" => "spam".to_owned(),
        "siem_v1_ttp_url" => "url protect".to_owned(),
        "siem_v1_ttp_ap" => "attachment protect".to_owned(),
        _ => name.strip_prefix("siem_v1_").or(name.strip_prefix("siem_v2_"))?.replace('_', " "),
    };
    Some((siem::table(&kind)?, Target::Siem(kind)))
}

/// The objects of STIX bundles.
fn objects(bundles: &[Vec<u8>]) -> io::Result<Vec<Vec<u8>>> {
    #[derive(serde::Deserialize)]
    struct Bundle {
        objects: Vec<Box<RawValue>>,
    }
    let mut objects = Vec::new();
    for bundle in bundles {
        let bundle: Bundle = serde_json::from_slice(bundle)?;
        objects.extend(bundle.objects.iter().map(|object| object.get().as_bytes().to_vec()));
    }
    Ok(objects)
}
