//! What a simulation knows of the functions under it, for the page of `simulate`. They run elsewhere, so it goes by what they leave
//! in the simulated DynamoDB and Devo; and it does not start them, so of their next run it says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::get;
use chrono::{DateTime, Utc};
use collector::{Overview, Settings, Source, Store};
use mimecast::Clock;
use mimecast_devo::embedded::TABLE;
use serde_json::{Value, json};

use crate::Error;
use crate::balance;
use crate::endpoint::Simulation;
use crate::health::{self, LAG, MINUTES, fresh};

const NOTE: &str = "A simulation: the functions are started elsewhere, so when they run next is not known here.";

struct Known {
    simulation: Simulation,
    /// The functions' own, as far as they tell which feeds there are.
    settings: Settings,
    started: DateTime<Utc>,
}

/// Serves the page, for as long as the runtime lives: the address.
pub async fn serve(simulation: &Simulation, address: SocketAddr) -> Result<SocketAddr, Error> {
    let settings = Settings::from_lookup(|name| match name {
        "MIMECAST_SECRET_ID" => Some("none".to_owned()),
        "DEVO_URL" => Some("stdout:".to_owned()),
        "CHECKPOINT_TABLE" => Some(TABLE.to_owned()),
        _ => collector::variable(name),
    })?;
    let known = Arc::new(Known { simulation: simulation.clone(), settings, started: Clock::System.now() });
    let status = async |State(known): State<Arc<Known>>| match known.whole().await {
        Ok(whole) => fresh(whole.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    let app = Router::new().route("/status.json", get(status)).with_state(known);
    Ok(health::serve_with_page(address, app).await?)
}

impl Known {
    async fn whole(&self) -> Result<Value, Error> {
        let now = Clock::System.now();
        let store = Store::new(self.simulation.dynamodb.client(), TABLE);
        let tenants = self.tenants()?;
        let mut arrivals: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        let (found, on_request) = {
            let world = self.simulation.world();
            (world.devo.arrivals(), world.on_request.clone())
        };
        for (table, times) in found {
            arrivals.entry(balance::source_of(&table)).or_default().extend(times);
        }
        let (mut sources, mut healthy) = (BTreeMap::new(), true);
        for source in [functions::by_default(), &on_request].concat() {
            let mut overviews = Vec::new();
            for tenant in &tenants {
                let overview = store.overview(tenant, source, &self.settings, now).await?;
                overviews.extend(overview.updated_at.is_some().then_some(overview));
            }
            let arrivals = arrivals.remove(&Some(source.name)).unwrap_or_default();
            let shown = shown(source, &overviews, &arrivals, now);
            healthy &= shown["trouble"].is_null();
            sources.insert(source.name, shown);
        }
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"), "started": self.started, "now": now, "healthy": healthy, "note": NOTE,
            "sources": sources,
        }))
    }

    /// The tenants that have checkpoints.
    fn tenants(&self) -> Result<BTreeSet<String>, Error> {
        let partitions = self.simulation.dynamodb.partitions()?;
        Ok(partitions.iter().filter_map(|pk| Some(pk.split_once('#')?.0.to_owned())).collect())
    }
}

/// A source is as well as its least well tenant. `arrivals`: when each of its lines came to Devo.
fn shown(source: &Source, overviews: &[Overview], arrivals: &[i64], now: DateTime<Utc>) -> Value {
    let troubles = overviews.iter().filter_map(|overview| {
        let Overview { tenant, failure, remedy, .. } = overview;
        let trouble = match failure {
            Some(failure) => {
                let remedy = remedy.as_deref().unwrap_or_default();
                format!("failing since {}: {}; {remedy}", failure.at.format("%FT%TZ"), failure.text)
            }
            None => overview.trouble(LAG, now)?,
        };
        Some(if overviews.len() > 1 { format!("{trouble} (tenant {tenant})") } else { trouble })
    });
    let trouble = match (overviews, arrivals) {
        ([], []) => Some("has not run yet".to_owned()),
        // Under SAM, for one, with a DynamoDB of its own.
        ([], _) => Some("elsewhere: its checkpoints are not kept here, so only what has arrived is known".to_owned()),
        _ => troubles.reduce(|all, trouble| format!("{all}; {trouble}")),
    };
    json!({
        "table": source.table,
        "events": arrivals.len(),
        "minutes": minutes(arrivals, now),
        "lag_seconds": overviews.iter().filter_map(|overview| overview.lag_seconds).max(),
        "last_success": overviews.iter().map(|overview| overview.succeeded_at).min().flatten(),
        "silent_since": overviews.iter().filter_map(|overview| overview.silent_since).min(),
        "rejected": overviews.iter().map(|overview| overview.dead_letters).sum::<u64>(),
        "trouble": trouble,
        "warnings": [],
    })
}

/// How many came in each of the last minutes.
fn minutes(arrivals: &[i64], now: DateTime<Utc>) -> Vec<(i64, u64)> {
    let last = now.timestamp().div_euclid(60);
    let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
    for minute in arrivals.iter().map(|at| at.div_euclid(60)).filter(|minute| last - minute < MINUTES as i64) {
        *counts.entry(minute).or_default() += 1;
    }
    counts.into_iter().collect()
}
