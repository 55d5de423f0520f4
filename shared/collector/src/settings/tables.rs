//! Where the events of a table go: to it, or to another by `DEVO_TAG` or `DEVO_TABLE_<SOURCE>`.

use super::{Settings, TAG, bad, is_tag, set};
use crate::error::Error;
use crate::source::{Kind, Source};

/// What `DEVO_TAG` replaces: Devo's tables for Mimecast, and what Devo has no table for.
pub(super) const FRONTS: [&str; 2] = ["mail.mimecast", "my.app.mimecast"];

/// How the variables for a single source's table begin.
pub(super) const OWN: &str = "DEVO_TABLE_";

impl Settings {
    /// The same with `DEVO_TABLE_<SOURCE>` of these sources.
    ///
    /// # Errors
    /// [`Error::Configuration`], where it is no table, or the source has several.
    pub fn with_tables_of(
        mut self,
        sources: &[&'static Source],
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        for source in sources {
            let name = format!("{OWN}{}", source.name.to_ascii_uppercase());
            let Some(table) = set(&lookup, &name) else { continue };
            if matches!(&source.kind, Kind::Stream(stream) if !stream.types.is_empty()) {
                let text = format!("{name} is set, but {} has several tables: DEVO_TAG moves them all", source.name);
                return Err(Error::Configuration(text));
            }
            if !is_tag(&table) {
                return Err(bad(&name, TAG));
            }
            self.devo_tables.insert(source.name, table);
        }
        Ok(self)
    }

    /// Where the events of `table` go, which is `source`'s or one of its: as `DEVO_TABLE_<SOURCE>` or `DEVO_TAG` say.
    pub(crate) fn table(&self, source: &Source, table: &str) -> String {
        let moved = |tag: &String| {
            let rest = FRONTS.iter().find_map(|front| table.strip_prefix(front))?;
            Some(format!("{tag}{rest}"))
        };
        let own = self.devo_tables.get(source.name).cloned();
        own.or_else(|| self.devo_tag.as_ref().and_then(moved)).unwrap_or_else(|| table.to_owned())
    }
}
