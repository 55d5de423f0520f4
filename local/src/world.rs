//! The simulated outside world of `demo` and `simulate`: a Mimecast with events, a Devo, and what has to arrive there.

use std::io;

use chrono::TimeDelta;
use clap::ValueEnum;
use collector::Source;
use simulator::data::{self, Expected, SUMMARY_TABLE};
use simulator::{Devo, Mimecast};

#[derive(clap::Args)]
pub struct WorldOptions {
    /// Mimecast's API
    #[arg(long, value_enum, default_value = "2.0")]
    api: Api,
    /// The same number makes the same events
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many events: about 600 times this
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    scale: u16,
    /// With the sources that are collected only where they are asked for (dlp, release, rejections, siemci)
    #[arg(long)]
    all_sources: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Api {
    #[value(name = "1.0")]
    V1,
    #[value(name = "2.0")]
    V2,
}

pub struct World {
    pub mimecast: Mimecast,
    pub devo: Devo,
    /// What Devo must hold, but for the hold summary.
    pub expected: Expected,
    /// The hold summary without `collectedAt`. Every poll of it is expected.
    pub summary: Vec<String>,
    /// The sources that are not collected by default and have events here.
    pub on_request: Vec<&'static Source>,
    api: Api,
    seed: u64,
}

impl World {
    pub async fn start(options: &WorldOptions) -> io::Result<Self> {
        let WorldOptions { api, seed, scale, all_sources } = *options;
        let (mimecast, devo) = (Mimecast::start().await?, Devo::start().await?);
        let mut expected = data::lively(&mimecast, seed, mimecast.now(), scale.into());
        let summary = expected.remove(SUMMARY_TABLE).unwrap_or_default();
        // API 1.0 does not have Cloud Integrated.
        let has = |source: &&Source| all_sources && (api == Api::V2 || source.name != "siemci");
        let on_request: Vec<_> = functions::on_request().iter().copied().filter(has).collect();
        for source in &on_request {
            expected.extend(data::lively_on_request(&mimecast, source.name, seed, mimecast.now(), scale.into()));
        }
        Ok(Self { mimecast, devo, expected, summary, on_request, api, seed })
    }

    pub fn mimecast_secret(&self) -> String {
        match self.api {
            Api::V1 => self.mimecast.secret_v1(),
            Api::V2 => self.mimecast.secret_v2(),
        }
    }

    /// About `count` new events at each source; of the dashboard one, of the hold summary none.
    pub fn add_events(&mut self, count: usize) {
        // Ids follow from the seed, so each is used once.
        self.seed = self.seed.wrapping_add(1);
        let now = self.mimecast.now();
        let mut new = data::more(&self.mimecast, self.seed, now, count);
        let (oldest, newest) = (now - TimeDelta::minutes(5), now - TimeDelta::seconds(90));
        for source in &self.on_request {
            new.extend(data::add(&self.mimecast, source.name, self.seed, oldest, newest, count));
        }
        for (table, lines) in new {
            self.expected.entry(table).or_default().extend(lines);
        }
    }
}
