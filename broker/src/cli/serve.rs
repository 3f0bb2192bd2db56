//! `hallpass-broker serve`, and what `dev` has in common with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use hallpass_core::time::Ttl;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::compose::{self, Beginning, Broker, Foundation};
use crate::config;
use crate::config::bundle::Bundle;
use crate::config::server::{BundleSource, Limits, OwnCertificate, Server, ServerConfig, Tls};
use crate::http::certificate_header::{CertificateHeader, CertificateProxies};
use crate::http::forwarded::{Proxies, ProxyHeader};
use crate::http::places::Bounds;
use crate::http::{self, ApiState, HttpLimits, Operations};
use crate::outbound::AllowHttp;
use crate::runtime::certificates::{self, Named, WithCertificates};
use crate::runtime::control::{self, Answer, Command, Request};
use crate::runtime::driver::{self, Driver};
use crate::runtime::lifecycle::{Lifecycle, Orders};
use crate::runtime::listener::{self, Certificates, ClientCertificates, ListenerLimits};
use crate::runtime::telemetry::{self, Page};
use crate::runtime::vitals::Vitals;

pub(super) fn load(config: &Path) -> anyhow::Result<ServerConfig> {
    ServerConfig::load(config).map_err(compose::findings_error)
}

pub(super) fn foundation(config: &ServerConfig) -> Foundation {
    Foundation {
        store: config.store.path.clone(),
        keys: config.keys.clone(),
        create_key_file: false,
        public_url: config.server.public_url.clone(),
        outbound_ca_file: None,
        allow_http: AllowHttp::Never,
        audit: config.audit.clone(),
        unverified_refusals_per_minute: config.limits.unverified_refusals_per_source_per_minute,
        rates: config.limits.rates,
        max_live_per_owner: config.limits.max_live_grants_per_owner,
        max_actors: config.limits.max_actors,
        max_derived_per_actor: config.limits.max_derived_per_actor,
        refusals_per_minute: config.limits.refusals_per_identity_per_minute,
    }
}

pub(super) async fn run(config: PathBuf) -> anyhow::Result<()> {
    let config = load(&config)?;
    let traces = config.telemetry.traces.clone().map(telemetry::traces::collect).transpose();
    let (traces, exporter) = traces.context("traces cannot be sent")?.unzip();
    telemetry::start_logging(config.telemetry.log_format, &config.telemetry.log_level, traces);
    let metrics = telemetry::metrics::start().context("metrics cannot be collected")?;
    let beginning = beginning(&config.bundle)?;
    let mut orders = Orders::listen().context("signals cannot be handled")?;
    let broker = Arc::new(Broker::assemble(foundation(&config), beginning).await?);
    let lifecycle = Lifecycle::default();
    if let Some(exporter) = exporter {
        lifecycle.tasks.spawn(exporter.run(lifecycle.stopped()));
    }
    let driver = Driver::start(&broker.ports, config.audit.checkpoint_every, &lifecycle.tasks, &lifecycle.stopping());
    driver.tend_keys(broker.key_keeper(), &broker.ports, &lifecycle.tasks, &lifecycle.stopping());
    let control = control::listen(&config.store.path).context("the control socket cannot be made")?;
    let commands = answer_commands(control, Arc::clone(&broker), lifecycle.tasks.clone(), lifecycle.stopped());
    lifecycle.tasks.spawn(commands);

    let server = &config.server;
    let gates = Gates {
        api: Gate::open("tls_api", server.listen, server.tls.as_ref()).await?,
        admin: match &server.admin {
            Some(admin) => Some(Gate::open("tls_admin", admin.listen, admin.tls.as_ref()).await?),
            None => None,
        },
        operations: Some(Gate::open("tls_operations", server.ops_listen, server.ops_tls.as_ref()).await?),
    };
    let certificates = gates.certificates();
    lifecycle.tasks.spawn(telemetry::metrics::keep_up(metrics.clone(), lifecycle.stopped()));
    let page = Some(Page::new(metrics, broker.ports.clone()));
    let front = Front {
        limits: &config.limits,
        drain: server.drain_timeout,
        proxies: proxies(server),
        certificate_proxies: certificate_proxies(server)?,
        page,
        vitals: driver.vitals(),
        admin_url: server.admin.as_ref().and_then(|admin| admin.public_url.as_deref()),
        dpop_nonces: server.dpop_nonces,
    };
    let address = front.open(&broker, &server.public_url, gates, &lifecycle)?;
    let clock = Arc::clone(&broker.ports.clock);
    lifecycle.tasks.spawn(certificates::watch(certificates.clone(), clock, lifecycle.stopping()));
    tracing::info!(%address, public_url = %server.public_url, "listening");

    let again = async || {
        certificates::look(&certificates, broker.ports.now()).await;
        reload(&broker, &driver, &config.bundle).await;
    };
    orders.until_stopped(again).await;
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

fn certificate_proxies(server: &Server) -> anyhow::Result<CertificateProxies> {
    let Some(configured) = &server.certificate_proxies else { return Ok(CertificateProxies::default()) };
    let header = match configured.header {
        config::server::CertificateHeader::XForwardedClientCert => CertificateHeader::XForwardedClientCert,
        config::server::CertificateHeader::ClientCert => CertificateHeader::ClientCert,
    };
    let file = &configured.ca_file;
    let authorities = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let proxies = CertificateProxies::new(header, &authorities, configured.names.clone());
    proxies.with_context(|| file.display().to_string())
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
    let trouble = outcome.is_err().then(|| "what was to be loaded last is refused; the log says why".to_owned());
    driver.vitals().note("configuration", None, trouble);
    match outcome {
        Ok(revision) => tracing::info!(%revision, "the bundle was loaded again"),
        Err(error) => tracing::error!(error = %format!("{error:#}"), "the bundle is refused; the one in force stays"),
    }
}

async fn answer_commands(
    listener: tokio::net::UnixListener,
    broker: Arc<Broker>,
    tasks: TaskTracker,
    stopped: impl Future<Output = ()>,
) {
    let answer = |request: Request| {
        let broker = Arc::clone(&broker);
        async move {
            if !request.is_genuine(broker.ports.sealer.as_ref(), broker.ports.now()) {
                telemetry::privileged_action("operator_token", false);
                tracing::warn!("a request at the control socket was not made with this broker's key");
                return Answer::Refused("the request was not made lately with this broker's key".to_owned());
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
                Command::Rewrap { data_key, read, wrapping } => {
                    let rewrapped = super::keys::take_over(&broker.data_key_keeper(), &data_key, read, wrapping).await;
                    telemetry::privileged_action("keys", rewrapped.is_ok());
                    rewrapped.map_or_else(|error| Answer::Refused(format!("{error:#}")), Answer::Rewrapped)
                }
                Command::Keys(command) => {
                    let offline_root = broker.is_under_an_offline_root();
                    let carried_out = super::keys::carry_out(command, &broker.key_keeper(), offline_root).await;
                    telemetry::privileged_action("keys", carried_out.is_ok());
                    match carried_out {
                        Ok(answer) => {
                            // Should the log's key have changed, what the new one signs must be kept before a restart
                            // asks for it.
                            driver::sign_checkpoint(&broker.ports).await;
                            answer
                        }
                        Err(error) => Answer::Refused(format!("{error:#}")),
                    }
                }
            }
        }
    };
    control::serve(listener, stopped, &tasks, answer).await;
}

/// Where one listener listens, and with which certificate.
pub(super) struct Gate {
    listener: TcpListener,
    certificate: Option<Named>,
    clients: ClientCertificates,
}

impl Gate {
    /// In plain http.
    pub(super) fn plain(listener: TcpListener) -> Self {
        Self { listener, certificate: None, clients: ClientCertificates::NotAsked }
    }

    async fn open(name: &'static str, address: SocketAddr, tls: Option<&Tls>) -> anyhow::Result<Self> {
        let certificates = match tls.map(|tls| &tls.own) {
            None => None,
            Some(OwnCertificate::Files { certificate_file, private_key_file }) => {
                Some(Certificates::load(certificate_file, private_key_file)?)
            }
            Some(OwnCertificate::WorkloadApi(socket)) => Some(Certificates::of_agent(socket).await?),
        };
        let certificate = certificates.map(|certificates| Named { name, certificates });
        let asked = tls.is_some_and(|files| files.client_certificates);
        let clients = if asked { ClientCertificates::Asked } else { ClientCertificates::NotAsked };
        Ok(Self { listener: TcpListener::bind(address).await.context(address)?, certificate, clients })
    }

    /// Serves `router` until the lifecycle stops.
    fn serve(self, router: axum::Router, limits: ListenerLimits, lifecycle: &Lifecycle) -> anyhow::Result<()> {
        let clients = self.clients;
        let tls = self.certificate.map(|named| named.certificates.server_config(clients)).transpose()?;
        lifecycle.tasks.spawn(listener::serve(self.listener, tls, router, limits, lifecycle.stopped()));
        Ok(())
    }
}

/// The listeners of a broker.
pub(super) struct Gates {
    pub(super) api: Gate,
    /// For operators; none where they use the API's.
    pub(super) admin: Option<Gate>,
    pub(super) operations: Option<Gate>,
}

impl Gates {
    fn certificates(&self) -> Vec<Named> {
        let all = [Some(&self.api), self.admin.as_ref(), self.operations.as_ref()];
        all.into_iter().flatten().filter_map(|gate| gate.certificate.clone()).collect()
    }
}

/// What the listeners of a broker have in common.
pub(super) struct Front<'a> {
    pub(super) limits: &'a Limits,
    /// How long requests have to finish when the listeners stop.
    pub(super) drain: Ttl,
    pub(super) proxies: Proxies,
    pub(super) certificate_proxies: CertificateProxies,
    /// The metrics, for the operations gate.
    pub(super) page: Option<Page>,
    /// How the work behind the requests goes.
    pub(super) vitals: Arc<Vitals>,
    /// What the admin listener is called, where it is known.
    pub(super) admin_url: Option<&'a str>,
    /// Whether proofs of possession carry nonces.
    pub(super) dpop_nonces: bool,
}

impl Front<'_> {
    /// Serves at the gates until the lifecycle stops. Answers where the API is.
    pub(super) fn open(
        self,
        broker: &Broker,
        public_url: &str,
        gates: Gates,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<SocketAddr> {
        let (address, certificates) = (gates.api.listener.local_addr()?, gates.certificates());
        let shared_sources = self.proxies.shared_sources();
        let api = Arc::new(ApiState {
            ports: broker.ports.clone(),
            public_url: public_url.to_owned(),
            admin_url: if gates.admin.is_some() { self.admin_url.unwrap_or_default() } else { public_url }.to_owned(),
            limits: HttpLimits {
                max_body_bytes: self.limits.body_bytes,
                in_flight: Bounds { all: self.limits.concurrency, each: self.limits.concurrency_per_source },
                control_in_flight: Bounds {
                    all: self.limits.control_concurrency(),
                    each: self.limits.control_concurrency_per_source(),
                },
                request_timeout: self.limits.request_timeout.as_duration(),
                body_timeout: self.limits.body_timeout.as_duration(),
                ..HttpLimits::default()
            },
            proxies: self.proxies,
            certificate_proxies: self.certificate_proxies,
            tokens: broker.token_desk(),
            possession: broker.possession(self.dpop_nonces)?,
            takes_certificates: gates.api.clients == ClientCertificates::Asked,
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
        let router = if gates.admin.is_some() { http::callers(Arc::clone(&api)) } else { http::api(Arc::clone(&api)) };
        gates.api.serve(router, connections.clone(), lifecycle)?;
        if let Some(gate) = gates.admin {
            gate.serve(http::admin(api), connections, lifecycle)?;
        }
        if let (Some(gate), Some(page)) = (gates.operations, self.page) {
            let clock = Arc::clone(&broker.ports.clock);
            let state = Arc::new(Operations {
                ports: broker.ports.clone(),
                readiness: Arc::new(WithCertificates {
                    others: broker.readiness(self.vitals),
                    all: certificates,
                    clock,
                }),
                metrics: Arc::new(page),
            });
            gate.serve(http::operations(state), ListenerLimits::default(), lifecycle)?;
        }
        Ok(address)
    }
}
