//! What lives as long as the process: settings, the store, and per tenant the clients made from its secrets.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use devo::Sink;
use mimecast::{Client, Clock, Credentials};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};
use tracing::Instrument as _;

use crate::deliver::Counts;
use crate::error::{Error, ErrorType};
use crate::process::answer::Answer;
use crate::process::aws;
use crate::process::invocation::Invocation;
use crate::process::report::Report;
use crate::process::secrets::Secrets;
use crate::run::Run;
use crate::settings::Settings;
use crate::source::{Kind, Source};
use crate::store::Store;

/// The time a run takes at most when nobody gives it a deadline.
const WITHOUT_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// The time that own logs may take: they are a courtesy.
const OWN_LOGS_TIME: Duration = Duration::from_secs(5);

/// Runs sources: each invocation is one run of one source for one tenant.
pub struct Collector {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(super) secrets: Secrets,
    pub(crate) clock: Clock,
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    networks: Option<Networks>,
}

/// What stands in the network's place to Mimecast and to Devo.
type Networks = (Arc<dyn mimecast::Network>, Arc<dyn devo::Network>);

/// A tenant's doors to Mimecast and Devo, kept warm between invocations.
pub(crate) struct Account {
    pub mimecast: Client,
    pub sink: Sink,
    /// What they were made from, to tell a rotated secret.
    secrets: (SecretString, Option<SecretString>),
}

impl Collector {
    /// A collector with the given parts.
    pub fn new(settings: Settings, store: Store, secrets: Secrets, clock: Clock) -> Self {
        Self { settings, store, secrets, clock, accounts: Mutex::default(), networks: None }
    }

    /// The same collector with these behind its clients in the network's place, for simulations.
    #[must_use]
    pub fn over(self, mimecast: Arc<dyn mimecast::Network>, devo: Arc<dyn devo::Network>) -> Self {
        Self { networks: Some((mimecast, devo)), ..self }
    }

    /// A collector of one source as the environment describes it, on AWS.
    ///
    /// # Errors
    /// `Configuration`, naming the variable.
    pub async fn from_env(source: &'static Source) -> Result<Self, Error> {
        Ok(Self::on_aws(Settings::from_env(source)?).await)
    }

    /// A collector with these settings, on AWS.
    pub async fn on_aws(settings: Settings) -> Self {
        let config = aws::config().await;
        let store = Store::new(aws_sdk_dynamodb::Client::new(&config), &settings.checkpoint_table);
        let secrets = Secrets::over(&config);
        Self::new(settings, store, secrets, Clock::System)
    }

    /// Whether the default tenant's secrets can be read and fit the settings; asks neither Mimecast nor Devo. Says where events go.
    ///
    /// # Errors
    /// `Configuration`, naming the key or the variable.
    pub async fn prepare(&self) -> Result<String, Error> {
        let account = self.account(&self.settings.tenant, None).await?;
        for warning in account.sink.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(account.sink.to_string())
    }

    /// Ends a lease of the default tenant that a killed process has left behind. Only for who knows that nobody holds it.
    ///
    /// # Errors
    /// `Checkpoint`.
    pub async fn release(&self, source: &Source) -> Result<(), Error> {
        self.store.release(&self.settings.tenant, source.name).await
    }

    /// One run of `source` for the invocation `event`, done by `deadline`.
    ///
    /// # Errors
    /// The error and the tenant it is about. What was delivered before stays delivered and checkpointed.
    pub async fn invoke(
        &self,
        source: &'static Source,
        event: &Value,
        deadline: Option<Instant>,
    ) -> Result<Answer, (Error, String)> {
        let default = || self.settings.tenant.clone();
        let invocation = Invocation::parse(event).map_err(|error| (error, default()))?;
        let tenant = invocation.tenant.clone().unwrap_or_else(default);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + WITHOUT_DEADLINE);
        let (started, began) = (Instant::now(), self.clock.now());
        let mut counts = Counts::default();
        // Each line that is logged meanwhile says whose it is.
        let span = tracing::error_span!("run", source = source.name, tenant);
        let outcome = self.run(source, &tenant, &invocation, deadline, &mut counts).instrument(span).await;
        let report = Report {
            source,
            tenant: &tenant,
            backfill: invocation.backfill.is_some(),
            outcome: outcome.as_ref(),
            counts: &counts,
            began,
            took: started.elapsed(),
        };
        self.publish(&report, deadline).await;
        outcome.map_err(|error| (error, tenant))
    }

    /// Tells of an invocation that is over. What has become of it is decided, so nothing here can fail it.
    async fn publish(&self, report: &Report<'_>, deadline: Instant) {
        let now = self.clock.now();
        if let Some(namespace) = &self.settings.metrics_namespace {
            // Standard output may be a way out to Devo; Lambda takes metrics from both.
            writeln!(io::stderr().lock(), "{}", report.metrics(namespace, now)).ok();
        }
        let account = self.accounts.lock().await.get(report.tenant).cloned();
        if let (true, Some(account)) = (self.settings.own_logs, account) {
            let lines = report.own_logs(now);
            let batches: Vec<_> =
                lines.iter().map(|(table, line)| devo::Batch { table, lines: vec![line.clone()] }).collect();
            let until = deadline.min(Instant::now() + OWN_LOGS_TIME);
            if let Some(error) = account.sink.send(&batches, until).await.failure {
                tracing::warn!(%error, "own logs were not delivered");
            }
        }
    }

    async fn run(
        &self,
        source: &'static Source,
        tenant: &str,
        invocation: &Invocation,
        deadline: Instant,
        counts: &mut Counts,
    ) -> Result<Answer, Error> {
        let mut account = self.account(tenant, None).await?;
        loop {
            let backfill = invocation.backfill.as_ref();
            let run = Run {
                source,
                tenant,
                backfill,
                settings: &self.settings,
                store: &self.store,
                mimecast: account.mimecast.counted(&counts.calls),
                sink: &account.sink,
                clock: self.clock,
                deadline,
            };
            let outcome = match obstacle(source, &self.settings, &account.mimecast, backfill.is_some()) {
                Some(text) => Err(Error::Configuration(text.to_owned())),
                None => run.run(counts).await,
            };
            match outcome {
                Err(error) if another_secret_may_help(error.error_type()) => {
                    // With another one, once more.
                    match self.account(tenant, Some(&account)).await {
                        Ok(renewed) if !Arc::ptr_eq(&renewed, &account) => account = renewed,
                        Ok(_) => return Err(error),
                        Err(unread) => {
                            tracing::warn!(tenant, error = %unread, "whether the secret has changed is unknown");
                            return Err(error);
                        }
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// The tenant's account; with `refused`, after looking whether its secrets have changed.
    pub(crate) async fn account(&self, tenant: &str, refused: Option<&Arc<Account>>) -> Result<Arc<Account>, Error> {
        let mut accounts = self.accounts.lock().await;
        if let (Some(account), None) = (accounts.get(tenant), refused) {
            return Ok(account.clone());
        }
        let mimecast = self.secrets.get(&self.settings.mimecast_secret_id(tenant)).await?;
        let devo = match self.settings.devo_secret_id(tenant) {
            Some(id) => Some(self.secrets.get(&id).await?),
            None => None,
        };
        if let Some(account) = refused {
            let (old_mimecast, old_devo) = &account.secrets;
            let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
            let same_devo = match (old_devo, &devo) {
                (Some(old), Some(new)) => same(old, new),
                (None, None) => true,
                _ => false,
            };
            if same(old_mimecast, &mimecast) && same_devo {
                return Ok(account.clone());
            }
            tracing::info!(tenant, "the secret has changed");
        }
        let (client, sink) = (self.client(&mimecast)?, self.sink(devo.as_ref())?);
        let account = Arc::new(Account { mimecast: client, sink, secrets: (mimecast, devo) });
        accounts.insert(tenant.to_owned(), account.clone());
        Ok(account)
    }

    pub(super) fn client(&self, secret: &SecretString) -> Result<Client, Error> {
        let credentials = Credentials::from_json(secret)?;
        let Settings { mimecast_base_url, mimecast_region, .. } = &self.settings;
        let base_url = credentials.base_url(mimecast_base_url.as_deref(), mimecast_region.as_deref())?;
        let client = Client::new(credentials, base_url, self.clock)?;
        Ok(match &self.networks {
            Some((network, _)) => client.over(network.clone()),
            None => client,
        })
    }

    pub(super) fn sink(&self, secret: Option<&SecretString>) -> Result<Sink, Error> {
        let keys = secret.map(devo::Credentials::from_json).transpose()?;
        let url = self.settings.devo_url(keys.as_ref().and_then(devo::Credentials::url))?;
        let sink = Sink::open(url, keys.as_ref(), &self.settings.devo)?;
        Ok(match &self.networks {
            Some((_, network)) => sink.over(network),
            None => sink,
        })
    }
}

impl Store {
    /// The table `table` on AWS, with the SDK's usual credentials and endpoints.
    pub async fn on_aws(table: &str) -> Self {
        Self::new(aws_sdk_dynamodb::Client::new(&aws::config().await), table)
    }
}

/// The secret may have been rotated, have the keys of the other API, or its `url` or `base_url` have moved to another host.
fn another_secret_may_help(error: ErrorType) -> bool {
    use ErrorType::{Configuration, Credentials, DevoRejected, DevoUnavailable, MimecastUnavailable};
    matches!(error, Configuration | Credentials | DevoRejected | DevoUnavailable | MimecastUnavailable)
}

/// Why the API that the keys are for cannot be asked for this.
fn obstacle(source: &Source, settings: &Settings, mimecast: &Client, backfill: bool) -> Option<&'static str> {
    let is_v2 = mimecast.is_v2();
    let (exists, by_time) = match &source.kind {
        Kind::Window(_) => (true, true),
        Kind::Stream(stream) => (!(stream.feeds)(settings, is_v2).is_empty(), stream.dated && is_v2),
        Kind::Snapshot(_) => (true, false),
    };
    if !exists {
        return Some(
            "API 1.0 does not have this source: give the Mimecast secret the keys of API 2.0, client_id and client_secret, \
             or leave this source out",
        );
    }
    (backfill && !by_time).then_some("backfill is not possible for this source: the API does not select it by time")
}
