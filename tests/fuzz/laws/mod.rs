//! What must hold for any bytes from outside: one function a target, which panics where its law is broken.
//!
//! The fuzz targets search for such bytes, and `replay.rs` runs the committed corpus through the same functions in every
//! `cargo test`. Only public doors are used, but for two modules that are taken in by their path.

#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod answers;
pub mod archive;
pub mod dedup;
pub mod json;
pub mod pieces;
pub mod relp;

/// A parser's law, by the name of its target.
pub type Law = fn(&[u8]);

/// All of them.
pub const LAWS: [(&str, Law); 12] = [
    ("compaction", json::compaction),
    ("plain", json::plain),
    ("ndjson", pieces::ndjson),
    ("key_value", pieces::key_value),
    ("csv", pieces::csv),
    ("array", pieces::array),
    ("sniff", pieces::sniff),
    ("archive", archive::archive),
    ("mimecast_answer", answers::mimecast),
    ("devo_answer", answers::devo),
    ("relp", relp::relp),
    ("dedup", dedup::dedup),
];
