//! `hallpass-broker serve`, and what `dev` has in common with it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use hallpass_core::time::Ttl;
use ipnet::IpNet;
use tokio::net::TcpListener;

use crate::compose::{self, Beginning, Broker, Foundation};
use crate::config;
use crate::config::bundle::Bundle;
use crate::config::server::{BundleSource, Limits, Server, ServerConfig};
use crate::http::forwarded::{Proxies, ProxyHeader};
use crate::http::{self, ApiState, HttpLimits, Operations};
use crate::outbound::AllowHttp;
use crate::runtime::control::{self, Answer, Command, Request};
use crate::runtime::driver::{self, Driver};
use crate::runtime::lifecycle::{Lifecycle, Orders};
use crate::runtime::listener::{self, ListenerLimits};
use crate::runtime::telemetry;

pub(super) fn load(config: &Path) -> anyhow::Result<ServerConfig> {
    ServerConfig::load(config).map_err(compose::findings_error)
}

pub(super) fn foundation(config: &ServerConfig) -> Foundation {
    Foundation {
        store: config.store.path.clone(),
        key_file: config.keys.key_encryption_key_file.clone(),
        create_key_file: false,
        retired_key_files: config.keys.retired_key_encryption_key_files.clone(),
        announce_keys: config.keys.announce,
        public_url: config.server.public_url.clone(),
        outbound_ca_file: None,
        allow_http: AllowHttp::Never,
        audit: config.audit.clone(),
        unverified_refusals_per_minute: config.limits.unverified_refusals_per_source_per_minute,
        rates: config.limits.rates,
        max_live_per_owner: config.limits.max_live_grants_per_owner,
        refusals_per_minute: config.limits.refusals_per_identity_per_minute,
    }
}

pub(super) async fn run(config: PathBuf) -> anyhow::Result<()> {
    let config = load(&config)?;
    telemetry::start_logging(config.telemetry.log_format, &config.telemetry.log_level);
    let beginning = beginning(&config.bundle)?;
    let mut orders = Orders::listen().context("signals cannot be handled")?;
    let broker = Arc::new(Broker::assemble(foundation(&config), beginning).await?);
    let lifecycle = Lifecycle::default();
    let driver = Driver::start(&broker.ports, config.audit.checkpoint_every, &lifecycle.tasks, &lifecycle.stopping());
    driver.tend_keys(broker.key_keeper(), &broker.ports, &lifecycle.tasks, &lifecycle.stopping());
    let control = control::listen(&config.store.path).context("the control socket cannot be made")?;
    lifecycle.tasks.spawn(answer_commands(control, Arc::clone(&broker), lifecycle.stopped()));

    let tls = match &config.server.tls {
        Some(files) => Some(listener::server_config(&files.certificate_file, &files.private_key_file)?),
        None => None,
    };
    let proxies = proxies(&config.server);
    let front = Front { limits: &config.limits, drain: config.server.drain_timeout, tls, proxies };
    let listen = TcpListener::bind(config.server.listen).await.context(config.server.listen)?;
    let operations = TcpListener::bind(config.server.ops_listen).await.context(config.server.ops_listen)?;
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

async fn answer_commands(listener: tokio::net::UnixListener, broker: Arc<Broker>, stopped: impl Future<Output = ()>) {
    let answer = |request: Request| {
        let broker = Arc::clone(&broker);
        async move {
            if !request.is_genuine(broker.ports.sealer.as_ref(), broker.ports.now()) {
                telemetry::privileged_action("operator_token", false);
                tracing::warn!("a request at the control socket was not made with this broker's key");
                return Answer::Refused("the request was not made lately with this broker's key file".to_owned());
            }
            match request.command {
                Command::OperatorToken { purpose, ttl } => {
                    let opened = broker.operator_token(&purpose, ttl.map(Ttl::from_secs)).await;
                    telemetry::privileged_action("operator_token", opened.is_ok());
                    match opened {
                        Ok(token) => Answer::Token(token),
                        Err(error) => Answer::Refused(super::operator_token::explain(error)),
                    }
                }
                Command::Keys(command) => {
                    let offline_root = broker.is_under_an_offline_root();
                    let carried_out = super::keys::carry_out(command, &broker.key_keeper(), offline_root).await;
                    telemetry::privileged_action("keys", carried_out.is_ok());
                    match carried_out {
                        Ok(keys) => {
                            // Should the log's key have changed, what the new one signs must be kept before a restart
                            // asks for it.
                            driver::sign_checkpoint(&broker.ports).await;
                            Answer::Keys(keys)
                        }
                        Err(error) => Answer::Refused(format!("{error:#}")),
                    }
                }
            }
        }
    };
    control::serve(listener, stopped, answer).await;
}

/// Addresses that many callers come from: the proxies', and those of whatever stands in front on this machine.
fn shared_sources(proxies: &Proxies) -> Vec<IpNet> {
    let loopback = [IpNet::new(Ipv4Addr::LOCALHOST.into(), 8), IpNet::new(Ipv6Addr::LOCALHOST.into(), 128)];
    loopback.into_iter().flatten().chain(proxies.trusted.iter().copied()).collect()
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
        operations: Option<TcpListener>,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<SocketAddr> {
        let address = listen.local_addr()?;
        let shared_sources = shared_sources(&self.proxies);
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
            max_connections_per_source: self.limits.connections_per_source,
            shared_sources,
            drain: self.drain.as_duration(),
            ..ListenerLimits::default()
        };
        lifecycle.tasks.spawn(listener::serve(listen, self.tls, http::api(api), connections, lifecycle.stopped()));
        if let Some(listen) = operations {
            let metrics = telemetry::start_metrics().context("metrics cannot be collected")?;
            let state = Arc::new(Operations {
                ports: broker.ports.clone(),
                readiness: broker.readiness(),
                metrics: Arc::new(move || metrics.render()),
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
