//! How a slice is asked for.

use mimecast::{Client, Error as Upstream, Page, Rows};
use serde_json::json;
use tokio::time::Instant;

use super::answer::{Answer, Pages};
use super::{Reader, Slice};
use crate::read::ahead::Ahead;
use crate::read::time::wire;

/// More rows per page are refused by every endpoint.
const LARGEST_PAGE_SIZE: u32 = 500;
/// How often a page token has to be refused before that is believed.
const REFUSALS: u32 = 3;

/// An answer under way.
pub(super) type Asked = Ahead<Result<Answer, Upstream>>;

/// What is asked for a slice, of which page ever.
pub(super) struct Question {
    client: Client,
    path: &'static str,
    rows: Rows,
    size: u32,
    item: String,
    pub(super) until: Instant,
}

impl Question {
    /// The first page, or the one behind a token.
    pub(super) async fn page(&self, token: Option<&str>) -> Result<Answer, Upstream> {
        let pagination = match token {
            Some(token) => json!({"pageSize": self.size, "pageToken": token}),
            None => json!({"pageSize": self.size}),
        };
        let body = format!(r#"{{"meta":{{"pagination":{pagination}}},"data":[{}]}}"#, self.item);
        let Page { rows, next, total, at } = self.client.page(self.path, self.rows, &body, self.until).await?;
        Ok(Answer { rows, pages: Pages::One, total, next, at })
    }

    /// The page behind a token, or `None` where the token is refused: last pages may have such a one. A refusal by chance would hide
    /// the rows behind it.
    pub(super) async fn behind(&self, token: &str) -> Result<Option<Answer>, Upstream> {
        for _ in 0..REFUSALS {
            match self.page(Some(token)).await {
                Err(Upstream::TokenRefused(_) | Upstream::BadRequest(_) | Upstream::NotFound(_)) => {}
                outcome => return outcome.map(Some),
            }
        }
        Ok(None)
    }
}

impl Reader<'_> {
    /// Asks for the first page of a slice.
    pub(super) fn ask(&self, slice: Slice) -> Asked {
        let question = self.question(slice);
        Ahead::start(async move { question.page(None).await })
    }

    /// Asks for a slice, and for its other pages where it has a few more rows than one holds.
    pub(super) fn ask_all(&self, slice: Slice) -> Asked {
        let (question, limits) = (self.question(slice), self.limits(slice));
        Ahead::start(async move { question.pages(limits).await })
    }

    fn question(&self, slice: Slice) -> Question {
        let ([from, to], filter) = (self.spec.bounds, self.spec.filter);
        let comma = if filter.is_empty() { "" } else { "," };
        let (begin, end) = (wire(slice.0), wire(slice.1));
        Question {
            client: self.task.client.clone(),
            path: self.spec.path,
            rows: self.spec.rows,
            size: self.page_size(),
            item: format!(r#"{{"{from}":"{begin}","{to}":"{end}"{comma}{filter}}}"#),
            until: self.task.until,
        }
    }

    fn page_size(&self) -> u32 {
        self.task.settings.page_size.map_or(self.spec.page_size, |size| size.min(LARGEST_PAGE_SIZE))
    }

    /// How many rows a full page has.
    pub(super) fn size(&self) -> usize {
        self.size.unwrap_or(self.page_size() as usize)
    }

    /// As [`Question::behind`].
    pub(super) async fn behind(&self, slice: Slice, token: &str) -> Result<Option<Answer>, Upstream> {
        let (question, token) = (self.question(slice), token.to_owned());
        Ahead::start(async move { question.behind(&token).await }).await
    }
}
