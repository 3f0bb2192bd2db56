//! `hallpass-broker serve`, and what `dev` has in common with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use hallpass_core::time::Ttl;
use tokio::net::TcpListener;

use crate::compose::{self, Beginning, Broker, Foundation};
use crate::config;
use crate::config::bundle::Bundle;
use crate::config::server::{BundleSource, Limits, Server, ServerConfig};
use crate::http::forwarded::{Proxies, ProxyHeader};
use crate::http::{self, ApiState, HttpLimits, Operations};
use crate::outbound::AllowHttp;
use crate::runtime::control::{self, OperatorAnswer, OperatorRequest};
use crate::runtime::driver::{self, Driver};
use crate::runtime::lifecycle::{Lifecycle, Orders};
use crate::runtime::listener::{self, ListenerLimits};
use crate::runtime::telemetry::{self, Page};

pub(super) fn load(config: &Path) -> anyhow::Result<ServerConfig> {
    ServerConfig::load(config).map_err(compose::findings_error)
}

pub(super) fn foundation(config: &ServerConfig) -> Foundation {
    Foundation {
        store: config.store.path.clone(),
        key_file: config.keys.key_encryption_key_file.clone(),
        create_key_file: false,
        retired_key_files: config.keys.retired_key_encryption_key_files.clone(),
        public_url: config.server.public_url.clone(),
        outbound_ca_file: None,
        allow_http: AllowHttp::Never,
        audit: config.audit.clone(),
        unverified_refusals_per_minute: config.limits.unverified_refusals_per_source_per_minute,
        rates: config.limits.rates,
        max_live_per_owner: config.limits.max_live_grants_per_owner,
    }
}

pub(super) async fn run(config: PathBuf) -> anyhow::Result<()> {
    let config = load(&config)?;
    telemetry::start_logging(config.telemetry.log_format, &config.telemetry.log_level);
    let metrics = telemetry::metrics::start().context("metrics cannot be collected")?;
    let beginning = beginning(&config.bundle)?;
    let mut orders = Orders::listen().context("signals cannot be handled")?;
    let broker = Arc::new(Broker::assemble(foundation(&config), beginning).await?);
    let lifecycle = Lifecycle::default();
    let driver = Driver::start(&broker.ports, config.audit.checkpoint_every, &lifecycle.tasks, &lifecycle.stopping());
    let control = control::listen(&config.store.path).context("the control socket cannot be made")?;
    lifecycle.tasks.spawn(answer_operators(control, Arc::clone(&broker), lifecycle.stopped()));

    let tls = match &config.server.tls {
        Some(files) => Some(listener::server_config(&files.certificate_file, &files.private_key_file)?),
        None => None,
    };
    let proxies = proxies(&config.server);
    let front = Front { limits: &config.limits, drain: config.server.drain_timeout, tls, proxies };
    let listen = TcpListener::bind(config.server.listen).await.context(config.server.listen)?;
    let operations = TcpListener::bind(config.server.ops_listen).await.context(config.server.ops_listen)?;
    lifecycle.tasks.spawn(telemetry::metrics::keep_up(metrics.clone(), lifecycle.stopped()));
    let operations = (operations, Page::new(metrics, broker.ports.clone()));
    let addresses = front.open(&broker, &config.server.public_url, listen, Some(operations), &lifecycle)?;
    tracing::info!(address = %addresses, public_url = %config.server.public_url, "listening");

    orders.until_stopped(async || reload(&broker, &driver, &config.bundle).await).await;
    tracing::info!("stopping: no new connections, and what runs is finished");
    if !lifecycle.drain(config.server.drain_timeout.as_duration()).await {
        tracing::warn!("some requests were still running when the drain timeout passed");
    }
    driver::sign_checkpoint(&broker.ports).await;
    Ok(())
}

fn proxies(server: &Server) -> Proxies {
    let header = match server.proxy_header {
        config::server::ProxyHeader::XForwardedFor => ProxyHeader::XForwardedFor,
        config::server::ProxyHeader::Forwarded => ProxyHeader::Forwarded,
    };
    Proxies { trusted: server.trusted_proxies.clone(), header }
}

/// What a broker begins with.
pub(super) fn beginning(source: &BundleSource) -> anyhow::Result<Beginning> {
    match source {
        BundleSource::Files { path } => {
            Bundle::load(path).map(|bundle| Beginning::Bundle(Box::new(bundle))).map_err(compose::findings_error)
        }
        BundleSource::Api { bootstrap } => Ok(Beginning::Record { bootstrap: bootstrap.clone() }),
    }
}

async fn reload(broker: &Broker, driver: &Driver, source: &BundleSource) {
    driver.confirm_clock(&broker.ports);
    let BundleSource::Files { path } = source else {
        return tracing::info!("there is no bundle to load again: bundles come over the API");
    };
    let outcome = broker.reload(Bundle::load(path)).await;
    telemetry::privileged_action("bundle_reload", outcome.is_ok());
    match outcome {
        Ok(revision) => tracing::info!(%revision, "the bundle was loaded again"),
        Err(error) => tracing::error!(error = %format!("{error:#}"), "the bundle is refused; the one in force stays"),
    }
}

async fn answer_operators(listener: tokio::net::UnixListener, broker: Arc<Broker>, stopped: impl Future<Output = ()>) {
    let answer = |request: OperatorRequest| {
        let broker = Arc::clone(&broker);
        async move {
            if !request.is_genuine(broker.ports.sealer.as_ref(), broker.ports.now()) {
                telemetry::privileged_action("operator_token", false);
                tracing::warn!("a request at the control socket was not made with this broker's key");
                return OperatorAnswer::Refused(
                    "the request was not made lately with this broker's key file".to_owned(),
                );
            }
            let opened = broker.operator_token(&request.purpose, request.ttl.map(Ttl::from_secs)).await;
            telemetry::privileged_action("operator_token", opened.is_ok());
            match opened {
                Ok(token) => OperatorAnswer::Token(token),
                Err(error) => OperatorAnswer::Refused(super::operator_token::explain(error)),
            }
        }
    };
    control::serve(listener, stopped, answer).await;
}

/// The listeners of a broker.
pub(super) struct Front<'a> {
    pub(super) limits: &'a Limits,
    /// How long requests have to finish when the listeners stop.
    pub(super) drain: Ttl,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) proxies: Proxies,
}

impl Front<'_> {
    /// Serves the API on `listen`, and operations where there is a listener for them, until the lifecycle stops.
    pub(super) fn open(
        self,
        broker: &Broker,
        public_url: &str,
        listen: TcpListener,
        operations: Option<(TcpListener, Page)>,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<SocketAddr> {
        let address = listen.local_addr()?;
        let api = Arc::new(ApiState {
            ports: broker.ports.clone(),
            public_url: public_url.to_owned(),
            limits: HttpLimits {
                max_body_bytes: self.limits.body_bytes,
                max_in_flight: self.limits.concurrency,
                max_control_in_flight: self.limits.control_concurrency(),
                request_timeout: self.limits.request_timeout.as_duration(),
                ..HttpLimits::default()
            },
            proxies: self.proxies,
            tokens: broker.token_desk(),
            keys: broker.public_keys(),
            pki: Some(broker.pki()),
            status_lists: broker.status_lists(),
            publishing: Some(Arc::clone(&broker.publishing)),
            tasks: lifecycle.tasks.clone(),
        });
        let connections = ListenerLimits {
            max_connections: self.limits.connections,
            drain: self.drain.as_duration(),
            ..ListenerLimits::default()
        };
        lifecycle.tasks.spawn(listener::serve(listen, self.tls, http::api(api), connections, lifecycle.stopped()));
        if let Some((listen, page)) = operations {
            let state = Arc::new(Operations {
                ports: broker.ports.clone(),
                readiness: broker.readiness(),
                metrics: Arc::new(page),
            });
            let router = http::operations(state);
            lifecycle.tasks.spawn(listener::serve(
                listen,
                None,
                router,
                ListenerLimits::default(),
                lifecycle.stopped(),
            ));
        }
        Ok(address)
    }
}
