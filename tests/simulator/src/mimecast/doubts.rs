//! What the real API may do besides what its pages say: clients have met it, or no page rules it out.
//!
//! All of it lasts until it is ended; for single calls there is `FaultKind`.

use chrono::{DateTime, Utc};

use super::Mimecast;

/// How this account differs from a calm one. The default is the calm one.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    /// Dashboard by API 2.0: a request needs `accountCode`.
    pub account_required: bool,
    /// SIEM 2.0: without `nextPage` a request needs `dateRangeEndsAt`.
    pub end_required: bool,
    /// SIEM 2.0: what becomes of dates beside `nextPage`.
    pub dates_with_token: DatesWithToken,
    /// SIEM 2.0: a token, and all that follow it, show nothing that was published after the last day of the request without a
    /// token which they go back to: its end date or, without one, the day on which it was asked.
    pub sealed_tokens: bool,
    /// SIEM 2.0: no request may start on the oldest day, of which only a part is kept.
    pub oldest_day_refused: bool,
    /// SIEM 2.0: what `isCaughtUp` is under a dead token; `None` leaves it out.
    pub dead_tokens_caught_up: Option<bool>,
    /// Window sources: what `totalCount` says.
    pub totals: Totals,
    /// Window sources: what their lists are sorted by.
    pub order: Order,
    /// Window sources: whether the last page has a `next`.
    pub last_page: LastPage,
    /// Window sources: no page has more rows than this, whatever is asked for.
    pub page_cap: Option<usize>,
    /// Window sources: each page token is a new one and leads to the first page again.
    pub stuck_pages: bool,
}

/// Dates beside `nextPage`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum DatesWithToken {
    /// They narrow the page down.
    #[default]
    Allowed,
    /// 400 where one is given.
    Refused,
    /// 400 where one is missing.
    Required,
}

/// `totalCount` of the window sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Totals {
    /// As many rows as the window has.
    #[default]
    Right,
    /// Left out.
    Absent,
    /// Right, but left out of the first page.
    NotOnFirstPage,
    /// Wrong by these, one after the other from answer to answer and then from the first again; below 0 too.
    Off(Vec<i64>),
    /// The right number, as a text.
    Text,
    /// Right, but 1 where the window has no rows.
    NeverZero,
}

/// The order of the window sources' lists, which is turned round where the newest comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Order {
    /// By the rows' time.
    #[default]
    Time,
    /// By when the rows could first be seen.
    Arrival,
}

/// What comes with the last page of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LastPage {
    /// No `next`.
    #[default]
    Ends,
    /// A `next` that leads to an empty page, which has none.
    LeadsToEmpty,
    /// A `next` that is answered with 404.
    LeadsTo404,
    /// A `next` that is answered with 400.
    LeadsTo400,
}

impl Mimecast {
    /// How the account behaves from now on.
    pub fn doubts(&self, doubts: Doubts) {
        self.state().doubts = doubts;
    }

    /// Every `nextPage` of SIEM 2.0 issued so far is dead: it gives an empty page without an error, whose own `nextPage` is dead
    /// too.
    pub fn kill_tokens(&self) {
        self.state().era += 1;
    }

    /// How many SIEM files have been published so far.
    pub fn siem_files(&self) -> usize {
        self.state().siem.len()
    }

    /// The path of the SIEM file that was published as the `nth`, counted from 0: for faults that concern it alone.
    pub fn siem_path(&self, nth: usize) -> String {
        self.state().siem.get(nth).map(|file| file.path.clone()).unwrap_or_default()
    }

    /// Takes the SIEM file that was published as the `nth`, counted from 0, out of all listings of API 2.0 until `until`. Then
    /// requests by date show it, and so do the tokens that go back to those; of all earlier tokens none ever does.
    pub fn hide_siem(&self, nth: usize, until: DateTime<Utc>) {
        if let Some(file) = self.state().siem.get_mut(nth) {
            file.hidden_until = Some(until);
        }
    }
}
