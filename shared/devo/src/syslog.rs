//! Ways out `tls:` and `tcp:`: syslog lines to Devo or to a relay, which acknowledge nothing.
//!
//! The strongest evidence is an orderly close: after the last line we end our side of the connection, and the receiver, once it has
//! read everything, ends its own. So a send is one connection per lane of tables, and the next one is opened meanwhile. After a
//! reset, an error or silence all that the connection carried is sent again, in smaller portions if it keeps happening.
//!
//! Some receivers never close, and then every portion would be sent again for ever. So an empty connection finds out first what the
//! receiver does. What its kernel has acknowledged counts for one that does not close.

use std::{
    io::{self, Write as _},
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};
use futures_util::future::join_all;
use reqwest::Url;
use tokio::{
    io::AsyncWriteExt as _,
    sync::OnceCell,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    Accepted, Batch, Credentials, Delivery, Error, Options, PROBE, Refused,
    line::{Line, too_large},
    retry::{Pace, Setback, retry},
    transport::{Stream, Target},
};

/// How many bytes are written at once: several TLS records of 16 kB.
const CHUNK: usize = 64_000;
/// How many bytes make one gzip member, before compression.
const MEMBER: usize = 256_000;
/// The smallest portion that one connection carries. Less than the 64 kB after which the worst receiver is taken to reset.
const SMALLEST: usize = 32_000;
/// So many portions must go well before the next may be twice as large.
const PROVEN: u32 = 8;
/// About what stands around an event in its line, in bytes.
const AROUND: usize = 100;
/// A second connection is worth its handshake from so many bytes on.
const LANE: usize = 1_000_000;
/// How long a receiver may take to read what is on its way and to close, and how long to close where nothing was sent.
const CLOSE: Duration = Duration::from_secs(15);
const CLOSE_EMPTY: Duration = Duration::from_secs(3);
/// So often one that closes empty connections may leave one with data open, one after the other, before it is taken not to close.
const UNCLOSED: u32 = 2;
/// Devo's balancer drops connections that were idle for 30 s.
const IDLE: Duration = Duration::from_secs(20);
/// Many quick tries: each halves the portion.
const PACE: Pace = Pace { tries: 12, base: Duration::from_millis(20) };

/// A syslog receiver.
#[derive(Debug)]
pub(crate) struct Syslog {
    target: Arc<Target>,
    line: Line,
    gzip: bool,
    accepted: Accepted,
    connections: usize,
    manner: OnceCell<Manner>,
    state: Mutex<State>,
}

/// What the receiver does after our end of an empty connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It closes in order. By TLS that means as well that it takes our certificate: in TLS 1.3 a server looks at it only after the
    /// handshake has ended for us, and may refuse it with our lines unread.
    Closes,
    /// Nothing: it keeps it open.
    StaysOpen,
    /// Something else, such as a reset. It has to close in order after data, or nothing counts.
    Unclear,
}

/// What is kept from send to send.
#[derive(Debug)]
struct State {
    spares: Vec<Spare>,
    /// How many bytes one connection may carry, and how many portions have gone well since that was set.
    portion: usize,
    proven: u32,
    /// Connections in a row that carried data which the receiver's kernel has acknowledged, and that it did not close.
    unclosed: u32,
}

/// A connection for the next send, perhaps still being opened.
#[derive(Debug)]
struct Spare {
    /// By the wall clock, which goes on while a Lambda environment is frozen.
    since: SystemTime,
    opening: JoinHandle<Result<Stream, Error>>,
}

impl Spare {
    fn is_fresh(&self) -> bool {
        self.since.elapsed().is_ok_and(|age| age < IDLE)
    }
}

/// Lines of some batches, by the batches' numbers.
type Portion = Vec<(usize, Range<usize>)>;

impl Syslog {
    pub fn open(url: &Url, credentials: Option<&Credentials>, options: &Options) -> Result<Self, Error> {
        if options.accepted == Accepted::Acknowledged && !kernel_tells() {
            return Err(Error::Configuration(
                "accepted: `acknowledged` is possible on Linux only; use `closed`".to_owned(),
            ));
        }
        Ok(Self {
            target: Arc::new(Target::parse(url, credentials)?),
            line: Line::new(options)?,
            gzip: options.gzip,
            accepted: options.accepted,
            connections: options.connections,
            manner: OnceCell::new(),
            state: Mutex::new(State { spares: Vec::new(), portion: usize::MAX, proven: 0, unclosed: 0 }),
        })
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub async fn send(&self, batches: &[Batch<'_>], until: Instant) -> Delivery {
        let lanes = spread(batches, self.connections);
        let sends = lanes.iter().map(|numbers| self.send_lane(batches, numbers, until));
        join_all(sends).await.into_iter().fold(Delivery::none(batches), Delivery::beside)
    }

    /// Sends the batches of these numbers one after the other.
    async fn send_lane(&self, batches: &[Batch<'_>], numbers: &[usize], until: Instant) -> Delivery {
        let mut delivery = Delivery::none(batches);
        let left = |settled: &[usize]| numbers.iter().any(|&number| settled[number] < batches[number].lines.len());
        while left(&delivery.settled) {
            let (settled, refusals) = (&delivery.settled, &mut delivery.refusals);
            match retry(PACE, until, refusals, |time| self.attempt(batches, numbers, settled, time)).await {
                Ok(portion) => {
                    for (number, range) in portion {
                        delivery.settled[number] = range.end;
                        let lines = range.map(|index| (index, &batches[number].lines[index]));
                        delivery.refused.extend(lines.filter_map(|(index, line)| {
                            Some(Refused { batch: number, index, reason: too_large(line)? })
                        }));
                    }
                }
                Err(error) => {
                    delivery.failure = Some(error);
                    break;
                }
            }
        }
        delivery
    }

    /// One connection's worth of what is not settled.
    async fn attempt(
        &self,
        batches: &[Batch<'_>],
        numbers: &[usize],
        settled: &[usize],
        time: Duration,
    ) -> Result<Portion, Setback> {
        let by = Instant::now() + time;
        let portion = cut(batches, numbers, settled, self.state().portion);
        let mut lines = portion.iter().flat_map(|(number, range)| &batches[*number].lines[range.clone()]);
        if lines.all(|line| too_large(line).is_some()) {
            return Ok(portion);
        }
        let manner = *self.manner.get_or_try_init(|| self.find_out(by)).await?;
        let mut stream = self.connection(by).await?;
        match self.carry(&mut stream, batches, &portion, manner, by).await {
            Ok(open) => {
                self.grow();
                if open {
                    self.keep(async { Ok(stream) });
                }
                Ok(portion)
            }
            Err(error) => {
                self.shrink(size(batches, &portion));
                // An alert or an answer that came before the end says more than the end.
                let error = match stream.silent().await {
                    Err(said) if said.kind() == io::ErrorKind::InvalidData => said,
                    _ => error,
                };
                Err(self.target.failure(&error).into())
            }
        }
    }

    /// What an empty connection shows, in words.
    pub async fn probe(&self, until: Instant) -> Result<String, Error> {
        let manner = self.find_out(until.min(Instant::now() + PROBE)).await.map_err(Setback::into_error)?;
        Ok(self.target.about(match manner {
            Manner::Closes => "connected, and the receiver closes after our end",
            Manner::StaysOpen => {
                "connected, but the receiver does not close after our end: what its kernel has acknowledged counts as accepted"
            }
            Manner::Unclear => "connected, but the receiver ends an empty connection out of order: only an orderly end after data counts",
        }))
    }

    /// What the receiver does after our end of an empty connection.
    async fn find_out(&self, by: Instant) -> Result<Manner, Setback> {
        let mut stream = self.target.connect(by).await?;
        let closed = async {
            stream.shutdown().await?;
            stream.end().await
        };
        let wait = Instant::now() + CLOSE_EMPTY;
        match timeout_at(by.min(wait), closed).await {
            Ok(Ok(())) => Ok(Manner::Closes),
            Ok(Err(error)) => match self.target.failure(&error) {
                Error::Unavailable(text) => {
                    tracing::debug!(text, "devo: an empty connection does not end in order");
                    Ok(Manner::Unclear)
                }
                lasting => Err(lasting.into()),
            },
            Err(_) if by < wait => Err(self.target.unavailable("does not close an empty connection in time").into()),
            Err(_) => {
                self.warn_of_staying_open();
                Ok(if kernel_tells() { Manner::StaysOpen } else { Manner::Unclear })
            }
        }
    }

    fn warn_of_staying_open(&self) {
        let text = "the receiver does not close after our end, so what its kernel has acknowledged counts as accepted: what it \
                    has not read when it dies is lost";
        tracing::warn!("devo: {}", self.target.about(text));
    }

    /// Writes a portion and waits until it counts as accepted; whether the connection is still open then.
    async fn carry(
        &self,
        stream: &mut Stream,
        batches: &[Batch<'_>],
        portion: &Portion,
        manner: Manner,
        by: Instant,
    ) -> io::Result<bool> {
        fn late<T>(text: &'static str) -> impl Fn(T) -> io::Error {
            move |_| io::Error::new(io::ErrorKind::TimedOut, text)
        }
        let written = timeout_at(by, self.write(stream, batches, portion)).await;
        written.map_err(late("the receiver takes no more data"))??;
        let by = by.min(Instant::now() + CLOSE);
        let acknowledged_is_enough = match manner {
            Manner::Closes => self.accepted == Accepted::Acknowledged || self.state().unclosed >= UNCLOSED,
            Manner::StaysOpen => true,
            Manner::Unclear => false,
        };
        if acknowledged_is_enough {
            let known = timeout_at(by, acknowledged(stream, false)).await;
            known.map_err(late("the receiver's kernel does not acknowledge what was sent"))??;
            stream.silent().await?;
            return Ok(true);
        }
        stream.shutdown().await?;
        let target = self.target.clone();
        self.keep(async move { target.connect(Instant::now() + CLOSE).await });
        let closed = timeout_at(by, async {
            stream.end().await?;
            // The receiver may have ended before it had read everything; then its kernel answers the rest with a reset.
            match acknowledged(stream, true).await {
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) => Ok(()),
                known => known,
            }
        });
        let Ok(closed) = closed.await else {
            if kernel_tells() && stream.unacknowledged()?.is_none_or(|bytes| bytes == 0) && self.stays_open() {
                self.warn_of_staying_open();
                return Ok(false);
            }
            return Err(late("the receiver does not close after our end, so whether it has read all is unknown")(()));
        };
        closed?;
        self.state().unclosed = 0;
        Ok(false)
    }

    async fn write(&self, stream: &mut Stream, batches: &[Batch<'_>], portion: &Portion) -> io::Result<()> {
        let full = if self.gzip { MEMBER } else { CHUNK };
        let mut chunk = Vec::with_capacity(full + CHUNK);
        for (number, range) in portion {
            let batch = &batches[*number];
            let head = self.line.head(batch.table);
            for line in batch.lines[range.clone()].iter().filter(|line| too_large(line).is_none()) {
                self.line.append(&mut chunk, &head, line);
                if chunk.len() >= full {
                    self.write_chunk(stream, &chunk).await?;
                    chunk.clear();
                }
            }
        }
        if !chunk.is_empty() {
            self.write_chunk(stream, &chunk).await?;
        }
        stream.flush().await?;
        stream.silent().await
    }

    async fn write_chunk(&self, stream: &mut Stream, chunk: &[u8]) -> io::Result<()> {
        stream.silent().await?;
        if self.gzip {
            let mut member = GzEncoder::new(Vec::new(), Compression::fast());
            member.write_all(chunk)?;
            stream.write_all(&member.finish()?).await
        } else {
            stream.write_all(chunk).await
        }
    }

    /// A connection that nothing was written to or that is kept open, else a new one.
    async fn connection(&self, by: Instant) -> Result<Stream, Error> {
        loop {
            let spare = self.state().spares.pop();
            let Some(spare) = spare else { return self.target.connect(by).await };
            if spare.is_fresh()
                && let Ok(Ok(Ok(mut stream))) = timeout_at(by, spare.opening).await
                && stream.silent().await.is_ok()
            {
                return Ok(stream);
            }
        }
    }

    /// Keeps a connection for the next send.
    fn keep(&self, opening: impl Future<Output = Result<Stream, Error>> + Send + 'static) {
        let mut state = self.state();
        state.spares.retain(Spare::is_fresh);
        if state.spares.len() < self.connections {
            state.spares.push(Spare { since: SystemTime::now(), opening: tokio::spawn(opening) });
        }
    }

    /// Whether the receiver has now left so many connections open that it is taken to do so always.
    fn stays_open(&self) -> bool {
        let mut state = self.state();
        state.unclosed += 1;
        state.unclosed >= UNCLOSED
    }

    fn grow(&self) {
        let mut state = self.state();
        state.proven += 1;
        if state.proven >= PROVEN {
            state.proven = 0;
            state.portion = state.portion.saturating_mul(2);
        }
    }

    /// Half of what has just failed.
    fn shrink(&self, failed: usize) {
        let mut state = self.state();
        state.proven = 0;
        state.portion = state.portion.min(failed / 2).max(SMALLEST);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(text) => Self::Passing { text, wait: None },
            lasting => Self::Lasting(lasting),
        }
    }
}

/// Whether this system says what the other side's kernel has acknowledged: Linux does.
fn kernel_tells() -> bool {
    Path::new("/proc/self/net/tcp").exists()
}

/// Waits until the receiver's kernel has acknowledged everything, also our end where we have `ended`.
async fn acknowledged(stream: &Stream, ended: bool) -> io::Result<()> {
    let mut pause = Duration::from_millis(1);
    // A connection that has ended in order may be gone from the kernel's table.
    while stream.unacknowledged()?.map_or(!ended, |bytes| bytes > 0) {
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

/// The numbers of the batches, in lanes of about equal size. A batch stays in one lane, so that a table's order is kept.
fn spread(batches: &[Batch<'_>], connections: usize) -> Vec<Vec<usize>> {
    let sizes: Vec<usize> =
        batches.iter().map(|batch| batch.lines.iter().map(|line| line.len() + AROUND).sum()).collect();
    let useful = 1 + sizes.iter().sum::<usize>() / LANE;
    let mut lanes = vec![(0, Vec::new()); connections.min(batches.len()).min(useful).max(1)];
    let mut numbers: Vec<usize> = (0..batches.len()).collect();
    numbers.sort_by_key(|&number| std::cmp::Reverse(sizes[number]));
    for number in numbers {
        if let Some((size, lane)) = lanes.iter_mut().min_by_key(|(size, _)| *size) {
            *size += sizes[number];
            lane.push(number);
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

/// The first unsettled lines of these batches that fit into `limit` bytes, at least one line.
fn cut(batches: &[Batch<'_>], numbers: &[usize], settled: &[usize], limit: usize) -> Portion {
    let mut portion = Portion::new();
    let mut bytes = 0;
    for &number in numbers {
        let (from, lines) = (settled[number], &batches[number].lines);
        let fitting = lines[from..].iter().take_while(|line| {
            let first = bytes == 0;
            bytes += line.len() + AROUND;
            first || bytes <= limit
        });
        let to = from + fitting.count();
        if to > from {
            portion.push((number, from..to));
        }
        if to < lines.len() {
            break;
        }
    }
    portion
}

fn size(batches: &[Batch<'_>], portion: &Portion) -> usize {
    let lines = portion.iter().flat_map(|(number, range)| &batches[*number].lines[range.clone()]);
    lines.map(|line| line.len() + AROUND).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batches(sizes: &[Vec<usize>]) -> Vec<Batch<'static>> {
        let lines = |sizes: &Vec<usize>| sizes.iter().map(|size| vec![b'x'; *size].into()).collect();
        sizes.iter().map(|sizes| Batch { table: "my.app.test", lines: lines(sizes) }).collect()
    }

    proptest! {
        #[test]
        fn portions_hold_every_line_once_and_in_order(
            sizes in prop::collection::vec(prop::collection::vec(1_usize..400, 0..30), 0..6),
            limit in 1_usize..4_000,
        ) {
            let batches = batches(&sizes);
            let numbers: Vec<usize> = (0..batches.len()).rev().collect();
            let mut settled = vec![0; batches.len()];
            loop {
                let portion = cut(&batches, &numbers, &settled, limit);
                let lines: usize = portion.iter().map(|(_, range)| range.len()).sum();
                prop_assert!(size(&batches, &portion) <= limit || lines == 1);
                if portion.is_empty() {
                    break;
                }
                for (number, range) in portion {
                    prop_assert_eq!(range.start, settled[number]);
                    settled[number] = range.end;
                }
            }
            prop_assert_eq!(settled, sizes.iter().map(Vec::len).collect::<Vec<_>>());
        }

        #[test]
        fn each_batch_is_in_one_lane(
            sizes in prop::collection::vec(prop::collection::vec(1_usize..400_000, 0..5), 0..12),
            connections in 1_usize..5,
        ) {
            let batches = batches(&sizes);
            let lanes = spread(&batches, connections);
            prop_assert!(lanes.len() <= connections);
            let mut numbers = lanes.concat();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..batches.len()).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_spare_is_dropped_before_the_balancer_drops_it() {
        let spare = |age| Spare {
            since: SystemTime::now() - Duration::from_secs(age),
            opening: tokio::spawn(async { Err(Error::Unavailable(String::new())) }),
        };
        assert!(spare(15).is_fresh());
        assert!(!spare(21).is_fresh());
        let clock_set_back = SystemTime::now() + Duration::from_secs(60);
        assert!(!Spare { since: clock_set_back, ..spare(0) }.is_fresh());
    }
}
