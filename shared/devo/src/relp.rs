//! Ways out `relp:` and `relp+tls:`: RELP 0, syslog lines of which each is acknowledged.
//!
//! A line is accepted when the server has answered its frame with code 200. One that is refused on two sessions while others for its
//! table are accepted is itself to blame. Lines without an answer when a session is lost are sent again on a new one, and only those:
//! they are what RELP may repeat. The protocol is in `session`, the bytes in `frame`.

mod frame;
mod session;

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use reqwest::Url;
use tokio::{
    spawn,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use self::session::{End, Entry, Session, State};
use crate::{
    Batch, Credentials, Delivery, Error, Options, PROBE, Refused,
    line::Line,
    retry::{ALONE, Pace, REFUSALS, Setback, retry},
    transport::{Stream, Target},
};

/// The most data of a frame, in bytes, syslog head included: librelp's own (`RELP_DFLT_MAX_DATA_SIZE` in its relp.h), from where on
/// it ends the session. A server may be set to less: rsyslog cuts at 8 kB, with an acknowledgement, unless `maxMessageSize` is raised.
const MAX_DATA: usize = 128 * 1024;
/// A session idle for longer is replaced: Devo's balancer ends one after 30 s.
const IDLE: Duration = Duration::from_secs(20);
const PACE: Pace = Pace { tries: 6, base: Duration::from_millis(500) };

/// A RELP server, and the sessions that stay open between sends.
#[derive(Debug)]
pub(crate) struct Relp {
    target: Target,
    line: Line,
    sessions: Vec<Mutex<Option<Kept>>>,
}

/// A session between two sends.
#[derive(Debug)]
struct Kept {
    session: Session<Stream>,
    /// By the wall clock, which goes on while a Lambda environment is frozen.
    since: SystemTime,
}

/// One session's share of a send, and where the session is kept.
type Lane<'a, 'b> = (MutexGuard<'a, Option<Kept>>, &'a mut [Entry<'b>]);

impl Relp {
    pub(crate) fn open(url: &Url, credentials: Option<&Credentials>, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            target: Target::parse(url, credentials)?,
            line: Line::new(options)?,
            sessions: (0..options.connections.max(1)).map(|_| Mutex::default()).collect(),
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// What an open session shows, in words.
    pub(crate) async fn probe(&self, until: Instant) -> Result<String, Error> {
        let session = self.session(until.min(Instant::now() + PROBE)).await.map_err(Setback::into_error)?;
        session.close().await;
        Ok(self.target.about("the RELP server has opened a session"))
    }

    pub(crate) async fn send(&self, batches: &[Batch<'_>], until: Instant) -> Delivery {
        let mut delivery = Delivery::none(batches);
        let heads: Vec<String> = batches.iter().map(|batch| self.line.head(batch.table)).collect();
        let mut lanes: Vec<Vec<Entry<'_>>> = self.sessions.iter().map(|_| Vec::new()).collect();
        for (number, (batch, head)) in batches.iter().zip(&heads).enumerate() {
            // A whole table to the session that has least to do: its order is kept.
            let Some(lane) = lanes.iter_mut().min_by_key(|lane| lane.len()) else { break };
            for (index, event) in batch.lines.iter().enumerate() {
                let (mut state, refusal) = (State::Open, String::new());
                if head.len() + event.len() > MAX_DATA {
                    let most = MAX_DATA.saturating_sub(head.len());
                    let reason = format!("too large for RELP: line of {} bytes, {most} are possible", event.len());
                    delivery.refused.push(Refused { batch: number, index, reason });
                    state = State::TooLarge;
                }
                lane.push(Entry { batch: number, index, head, event, state, refusal });
            }
        }
        let work = self.sessions.iter().zip(&mut lanes).map(|(session, lane)| self.work(session, lane, until));
        for (refusals, failure) in join_all(work).await {
            delivery.refusals += refusals;
            delivery.failure = Error::first(delivery.failure, failure);
        }
        for entry in lanes.iter().flatten() {
            match entry.state {
                State::Open | State::Refused => continue,
                State::Accepted | State::TooLarge => {}
                State::RefusedTwice => {
                    let mut table = lanes.iter().flatten().filter(|other| other.batch == entry.batch);
                    let refusal = &entry.refusal;
                    if !table.any(|other| other.state == State::Accepted) {
                        // Who may not send at all gets the same answer to each line.
                        let rejected =
                            self.rejected(&format!("refuses all lines for {}: {refusal}", batches[entry.batch].table));
                        delivery.failure = Error::first(delivery.failure, Some(rejected));
                        continue;
                    }
                    let reason = format!("refused by the RELP server, which takes its neighbours: {refusal}");
                    delivery.refused.push(Refused { batch: entry.batch, index: entry.index, reason });
                }
            }
            let settled = &mut delivery.settled[entry.batch];
            if entry.index == *settled {
                *settled += 1;
            }
        }
        delivery.refused.retain(|refused| refused.index < delivery.settled[refused.batch]);
        delivery
    }

    /// Hands a lane's entries over, on as many sessions, one after the other, as it takes: the sessions that broke off, and
    /// why not all was handed over.
    async fn work(
        &self,
        kept: &Mutex<Option<Kept>>,
        entries: &mut [Entry<'_>],
        until: Instant,
    ) -> (u64, Option<Error>) {
        let mut refusals = 0;
        if remaining(entries) == 0 {
            return (refusals, None);
        }
        let lane = Mutex::new((kept.lock().await, entries));
        // What has got on is no fault to be paced.
        loop {
            match retry(PACE, until, &mut refusals, |time| self.pass(&lane, Instant::now() + time, until)).await {
                Ok(true) => return (refusals, None),
                Ok(false) => refusals += 1,
                Err(error) => return (refusals, Some(error)),
            }
        }
    }

    /// Hands over on one session, the kept one or, opened at the latest at `by`, a new one. Whether all entries are settled;
    /// if not, the session has got on, or it was the kept one.
    async fn pass(&self, lane: &Mutex<Lane<'_, '_>>, by: Instant, until: Instant) -> Result<bool, Setback> {
        let (kept, entries) = &mut *lane.lock().await;
        let before = remaining(entries);
        let (mut session, fresh) = match kept.take() {
            Some(Kept { session, since }) if since.elapsed().is_ok_and(|idle| idle < IDLE) => (session, false),
            old => {
                if let Some(Kept { session, .. }) = old {
                    spawn(session.close());
                }
                (self.session(by).await?, true)
            }
        };
        match session.deliver(entries, until).await {
            Ok(()) => {
                **kept = Some(Kept { session, since: SystemTime::now() });
                Ok(true)
            }
            Err(End::Refused(answer)) => {
                tracing::warn!(answer, "devo: RELP lines refused, tried once more on a new session");
                spawn(session.close());
                let count = |state| entries.iter().filter(|entry| entry.state == state).count();
                let twice = count(State::RefusedTwice);
                let is_enough = twice >= REFUSALS || (twice >= ALONE && count(State::Accepted) == 0);
                if is_enough {
                    Err(Setback::Lasting(self.rejected(&format!("refuses lines: {answer}"))))
                } else {
                    Ok(false)
                }
            }
            Err(End::Lost(error)) => {
                let (unanswered, left) = (session.unanswered(), remaining(entries));
                let error = self.target.failure(&error);
                if Instant::now() >= until {
                    let text = format!("the deadline came with {unanswered} lines unacknowledged ({error})");
                    return Err(self.target.unavailable(&text).into());
                }
                tracing::warn!(%error, unanswered, left, "devo: RELP session lost, the unacknowledged lines are sent again");
                if left < before || !fresh { Ok(left == 0) } else { Err(error.into()) }
            }
            Err(End::Rejected(text)) => {
                spawn(session.close());
                Err(Setback::Lasting(self.rejected(&text)))
            }
        }
    }

    async fn session(&self, by: Instant) -> Result<Session<Stream>, Setback> {
        let stream = self.target.connect(by).await?;
        Session::open(stream, by).await.map_err(|end| match end {
            End::Lost(error) => self.target.failure(&error).into(),
            End::Refused(text) | End::Rejected(text) => Setback::Lasting(self.rejected(&text)),
        })
    }

    fn rejected(&self, text: &str) -> Error {
        match self.target.unavailable(text) {
            Error::Unavailable(text) => Error::Rejected(text),
            other => other,
        }
    }
}

/// How many entries are still to be sent.
fn remaining(entries: &[Entry<'_>]) -> usize {
    entries.iter().filter(|entry| entry.state.is_open()).count()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn an_idle_session_is_closed_and_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("relp://{}", listener.local_addr().unwrap())).unwrap();
        let relp = Relp::open(&url, None, &Options { connections: 1, ..Options::default() }).unwrap();
        let batches = [Batch { table: "my.app.test", lines: vec!["{}".into()] }];
        let send = async {
            for idle in [Duration::ZERO, IDLE / 2, IDLE] {
                if let Some(kept) = &mut *relp.sessions[0].lock().await {
                    kept.since -= idle;
                }
                let delivery = relp.send(&batches, Instant::now() + Duration::from_secs(60)).await;
                assert_eq!(delivery.settled, [1], "{delivery:?}");
            }
        };
        let serve = async {
            let mut said = Vec::new();
            for lines in [2, 1] {
                let mut stream = listener.accept().await.unwrap().0;
                let mut buffer = [0; 1000];
                for number in 1..=lines + 1 {
                    let length = stream.read(&mut buffer).await.unwrap();
                    said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                    let answer = format!("{number} rsp 37 200 OK\nrelp_version=0\ncommands=syslog\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                if lines == 2 {
                    let length = stream.read(&mut buffer).await.unwrap();
                    assert_eq!(&buffer[..length], b"4 close 0\n");
                }
            }
            said.iter().map(|said| said.split_once(' ').unwrap().1.split_once(' ').unwrap().0.to_owned()).collect()
        };
        let ((), commands): ((), Vec<String>) = tokio::join!(send, serve);
        assert_eq!(commands, ["open", "syslog", "syslog", "open", "syslog"]);
    }
}
