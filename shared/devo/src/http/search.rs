//! Which lines a refusal is meant for.
//!
//! A refused request is halved down to a line that is refused alone. That line alone is to blame only if others pass: whoever has the
//! wrong token gets the same answer to each. So the lines behind it are tried, and once one has passed, the line is tried again. Where
//! none passes, all is refused, and nothing can be said of any line. Each step is one request, and they are bounded.

use std::ops::Range;

use crate::retry::{ALONE, REFUSALS};

/// How far the lines of a table have got.
#[derive(Debug)]
pub(super) struct Search {
    count: usize,
    /// All before this one have been tried.
    at: usize,
    /// A request up to here was refused, and nothing before `at` is to blame for that.
    suspect_to: usize,
    /// Refused alone, and no neighbour has passed since.
    alone: Vec<usize>,
    /// Refused alone, and to be tried once more.
    again: Vec<usize>,
    /// Lines farther away, to be tried where none nearby passes, and the one that has passed. It is ahead of its place: one line out
    /// of order is better than a source that stands.
    far: Option<Vec<usize>>,
    taken: Option<usize>,
    /// Something has passed since several lines together were last refused.
    passed: bool,
    refusals: usize,
    asked: Asked,
}

/// What the request under way is for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    InTurn,
    Again,
    Far(usize),
}

impl Search {
    pub fn new(count: usize) -> Self {
        Self {
            count,
            at: 0,
            suspect_to: 0,
            alone: Vec::new(),
            again: Vec::new(),
            far: None,
            taken: None,
            passed: false,
            refusals: 0,
            asked: Asked::InTurn,
        }
    }

    /// The lines of the next request, of which the first ones will do. `None`: all is settled, or nothing more can be found out.
    pub fn next(&mut self) -> Option<Range<usize>> {
        if self.refusals >= REFUSALS {
            return None;
        }
        if self.taken == Some(self.at) {
            self.at += 1;
        }
        let is_enough = self.alone.len() >= ALONE || self.at == self.count;
        if is_enough && self.passed {
            self.again.append(&mut self.alone);
        }
        if let Some(&line) = self.again.first() {
            self.asked = Asked::Again;
            return Some(line..line + 1);
        }
        if is_enough && !self.alone.is_empty() {
            let (at, count) = (self.at, self.count);
            let far = self.far.get_or_insert_with(|| {
                (at < count).then(|| [at.midpoint(count), count - 1]).into_iter().flatten().collect()
            });
            let line = far.pop()?;
            self.asked = Asked::Far(line);
            return Some(line..line + 1);
        }
        self.asked = Asked::InTurn;
        let to = self.taken.filter(|taken| *taken > self.at).unwrap_or(self.count);
        let to = match (self.alone.is_empty(), self.suspect_to) {
            (false, _) => self.at + 1,
            (true, suspect_to) if suspect_to > self.at => to.min(self.at + (suspect_to - self.at).div_ceil(2)),
            _ => to,
        };
        (to > self.at).then_some(self.at..to)
    }

    /// Whether a refusal of what is asked for now is the last word on it.
    pub fn is_verdict(&self) -> bool {
        matches!(self.asked, Asked::Again)
    }

    /// So many of the lines asked for have passed.
    pub fn accepted(&mut self, count: usize) {
        self.passed = true;
        match self.asked {
            Asked::InTurn => {
                self.at += count;
                self.again.append(&mut self.alone);
            }
            Asked::Again => _ = self.again.remove(0),
            Asked::Far(line) => {
                self.taken = Some(line);
                self.again.append(&mut self.alone);
            }
        }
    }

    /// So many of the lines asked for have been refused. Whether it is one line, and it is to blame.
    pub fn refused(&mut self, count: usize) -> bool {
        self.refusals += 1;
        match self.asked {
            Asked::InTurn if count > 1 => (self.suspect_to, self.passed) = (self.at + count, false),
            Asked::InTurn => {
                self.alone.push(self.at);
                (self.at, self.suspect_to) = (self.at + 1, 0);
            }
            Asked::Again => {
                self.again.remove(0);
                return true;
            }
            Asked::Far(_) => {}
        }
        false
    }

    /// The one line asked for can never pass, whatever becomes of others.
    pub fn impossible(&mut self) {
        match self.asked {
            Asked::InTurn => self.at += 1,
            Asked::Again => _ = self.again.remove(0),
            Asked::Far(_) => {}
        }
    }

    /// How many of the first lines are settled.
    pub fn settled(&self) -> usize {
        self.again.first().or(self.alone.first()).copied().unwrap_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Searches among lines of which the `bad` are refused, and after so many requests all: what has passed, what is to blame, how
    /// many are settled, and how many requests were made.
    fn search(count: usize, bad: &BTreeSet<usize>, blocked_from: usize) -> (Vec<usize>, Vec<usize>, usize, usize) {
        let (mut search, mut passed, mut blamed, mut requests) = (Search::new(count), Vec::new(), Vec::new(), 0);
        while let Some(lines) = search.next() {
            requests += 1;
            if requests > blocked_from || bad.range(lines.clone()).next().is_some() {
                if search.refused(lines.len()) {
                    blamed.push(lines.start);
                }
            } else {
                passed.extend(lines.clone());
                search.accepted(lines.len());
            }
            assert!(requests < 1000);
        }
        (passed, blamed, search.settled(), requests)
    }

    proptest! {
        #[test]
        fn exactly_the_bad_lines_are_to_blame(count in 2_usize..200, bad in prop::collection::btree_set(0_usize..200, 0..6)) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|line| *line < count).collect();
            prop_assume!(bad.len() < count);
            let (passed, blamed, settled, _) = search(count, &bad, usize::MAX);
            prop_assert_eq!(settled, count);
            prop_assert_eq!(passed.iter().chain(&blamed).copied().collect::<BTreeSet<_>>().len(), count);
            prop_assert_eq!(passed.len() + blamed.len(), count, "none twice");
            prop_assert_eq!(blamed.into_iter().collect::<BTreeSet<_>>(), bad);
        }

        #[test]
        fn a_refusal_of_everything_blames_nothing(count in 1_usize..12_000, from in 0_usize..3) {
            let (passed, blamed, settled, requests) = search(count, &BTreeSet::new(), from);
            prop_assert_eq!(blamed, Vec::<usize>::new());
            prop_assert_eq!(settled, passed.len());
            prop_assert!(requests < 30, "{}", requests);
        }
    }

    #[test]
    fn one_bad_line_of_ten_thousand_costs_some_tens_of_requests() {
        for bad in [0, 1, 4_711, 9_998, 9_999] {
            let (_, blamed, settled, requests) = search(10_000, &[bad].into(), usize::MAX);
            assert_eq!((blamed, settled), (vec![bad], 10_000));
            assert!(requests <= 30, "{bad}: {requests}");
        }
    }

    #[test]
    fn many_bad_lines_side_by_side_are_got_over_run_by_run() {
        for first in [0, 40] {
            let bad: BTreeSet<usize> = (first..first + 100).collect();
            let (mut done, mut runs) = (0, 0);
            while done < 300 {
                let rest = bad.iter().filter(|line| **line >= done).map(|line| line - done).collect();
                let (_, _, settled, requests) = search(300 - done, &rest, usize::MAX);
                assert!(settled > 10 && requests <= 100, "{done}: {settled} after {requests}");
                (done, runs) = (done + settled, runs + 1);
            }
            assert!(runs < 8);
        }
    }
}
