//! Events gathered by their tables, as they go out.

use std::sync::Arc;

use bytes::Bytes;

use super::portion::Event;
use crate::seen::Mark;

/// Events, those of each table in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events {
    pub tables: Vec<Table>,
    count: usize,
    bytes: usize,
    /// Where the latest was put: the next is likely to be of the same table.
    latest: usize,
}

/// The events of a table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub name: Arc<str>,
    pub lines: Vec<Bytes>,
    /// Of each line.
    pub marks: Vec<Mark>,
    /// The log types for which no table is known, with the places of their lines, in order.
    pub unknown_types: Vec<(usize, Arc<str>)>,
}

impl Events {
    pub fn push(&mut self, event: Event) {
        let Event { table, line, mark, unknown_type } = event;
        self.count += 1;
        self.bytes += line.len() + 1;
        let table = self.table(&table);
        table.unknown_types.extend(unknown_type.map(|kind| (table.lines.len(), kind)));
        table.lines.push(line);
        table.marks.push(mark);
    }

    pub fn append(&mut self, other: Events) {
        self.count += other.count;
        self.bytes += other.bytes;
        for more in other.tables {
            let table = self.table(&more.name);
            let before = table.lines.len();
            table.unknown_types.extend(more.unknown_types.into_iter().map(|(place, kind)| (before + place, kind)));
            table.lines.extend(more.lines);
            table.marks.extend(more.marks);
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Of the lines, their ends included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.tables.iter().flat_map(|table| table.marks.iter().copied())
    }

    /// Takes off as many as fit, at least one where there is any.
    pub fn part(&mut self, most: usize, most_bytes: usize) -> Self {
        if self.count <= most && self.bytes <= most_bytes {
            return std::mem::take(self);
        }
        let (mut part, mut rest) = (Self::default(), Self::default());
        for table in std::mem::take(&mut self.tables) {
            let mut unknown_types = table.unknown_types.into_iter().peekable();
            for (place, (line, mark)) in table.lines.into_iter().zip(table.marks).enumerate() {
                let unknown_type = unknown_types.next_if(|(of, _)| *of == place).map(|(_, kind)| kind);
                let fits = part.is_empty() || (part.count < most && part.bytes + line.len() < most_bytes);
                let to = if rest.is_empty() && fits { &mut part } else { &mut rest };
                to.push(Event { table: table.name.clone(), line, mark, unknown_type });
            }
        }
        *self = rest;
        part
    }

    fn table(&mut self, name: &Arc<str>) -> &mut Table {
        if self.tables.get(self.latest).is_none_or(|table| table.name != *name) {
            let known = self.tables.iter().position(|table| table.name == *name);
            self.latest = known.unwrap_or(self.tables.len());
            if known.is_none() {
                let (lines, marks, unknown_types) = (Vec::new(), Vec::new(), Vec::new());
                self.tables.push(Table { name: name.clone(), lines, marks, unknown_types });
            }
        }
        &mut self.tables[self.latest]
    }
}

impl FromIterator<Event> for Events {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        let mut gathered = Self::default();
        events.into_iter().for_each(|event| gathered.push(event));
        gathered
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(number: usize, table: u8, length: usize, unknown: bool) -> Event {
        let line = format!("{number} {}", "x".repeat(length)).into();
        let unknown_type = unknown.then(|| format!("kind of {number}").into());
        Event { table: format!("t{table}").into(), line, mark: number as Mark, unknown_type }
    }

    /// As (table, line, mark, unknown type).
    fn flat(events: &Events) -> Vec<(String, Bytes, Mark, Option<String>)> {
        let mut flat = Vec::new();
        for table in &events.tables {
            assert_eq!(table.lines.len(), table.marks.len());
            for (place, (line, mark)) in table.lines.iter().zip(&table.marks).enumerate() {
                let kind = table.unknown_types.iter().find(|(of, _)| *of == place).map(|(_, kind)| kind.to_string());
                flat.push((table.name.to_string(), line.clone(), *mark, kind));
            }
        }
        assert_eq!(flat.len(), events.len());
        assert_eq!(flat.iter().map(|(_, line, ..)| line.len() + 1).sum::<usize>(), events.bytes());
        flat
    }

    proptest! {
        /// However they are gathered and parted, each is there once, with its mark and type, in its table's order.
        #[test]
        fn nothing_is_lost_or_moved(
            made in prop::collection::vec((0..4_u8, 0..30_usize, any::<bool>()), 0..40),
            cuts in prop::collection::vec(1..9_usize, 1..5),
            most in 1..12_usize,
            most_bytes in 1..150_usize,
        ) {
            let all: Vec<Event> =
                made.iter().enumerate().map(|(number, (table, length, unknown))| event(number, *table, *length, *unknown)).collect();
            let expected = flat(&all.iter().cloned().collect());
            let (mut gathered, mut rest, mut cuts) = (Events::default(), &all[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (portion, more) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                gathered.append(portion.iter().cloned().collect());
                rest = more;
            }
            prop_assert_eq!(flat(&gathered), &expected[..]);
            let mut parted = Vec::new();
            while !gathered.is_empty() {
                let part = gathered.part(most, most_bytes);
                prop_assert!(part.len() == 1 || (part.len() <= most && part.bytes() <= most_bytes));
                parted.extend(flat(&part));
            }
            prop_assert_eq!(parted, expected);
        }
    }
}
