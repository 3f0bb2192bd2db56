//! The adapter by itself, before a cloud that it is trusted by, with a record that the tests write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hallpass_broker::backend::aws::{AwsBackend, Reservations, Surroundings};
use hallpass_broker::backend::own_identity::OwnIdentity;
use hallpass_broker::config::backend::{AwsAuth, AwsBackend as Settings, AwsFence};
use hallpass_broker::keys::{LocalSigner, SystemEntropy};
use hallpass_broker::outbound::Outbound;
use hallpass_broker::runtime::clock::SystemClock;
use hallpass_core::credential::{CredentialMaterial, Handle, IssueOrder, IssuedCredential};
use hallpass_core::id::{BackendName, GrantId};
use hallpass_core::port::{
    CredentialBackend, Ended, EndedGrant, EndedGrants, EndedPage, FenceName, IssueError, SignatureAlgorithm, Signer,
    StoreError,
};
use hallpass_core::role::Role;
use hallpass_core::testing::sample;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use hallpass_tests::ministack::{ACCOUNT, Keys, Ministack, REGION, allow, trusting};
use serde_json::{Value, json};

use super::BUCKET;

const PUBLIC_URL: &str = "https://hallpass.test";

/// What a test says is over.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Vec<(IssueOrder, Handle)>>);

impl Ledger {
    pub(super) fn end(&self, order: &IssueOrder, handle: &Handle) {
        self.0.lock().unwrap().push((order.clone(), handle.duplicate()));
    }

    pub(super) fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}

#[async_trait]
impl EndedGrants for Ledger {
    async fn ended_alive(&self, fence: FenceName<'_>, _now: Timestamp, page: EndedPage) -> Result<Ended, StoreError> {
        assert_eq!(fence.backend_kind, "aws");
        let ended = self.0.lock().unwrap();
        // In the order in which they were ended, which the place in it stands for here.
        let from = page.after.map_or(0, |(place, _)| usize::try_from(place.as_millis()).unwrap());
        let to = from + page.limit;
        let last = GrantId::from(uuid::Uuid::nil());
        let next = (to < ended.len()).then(|| (Timestamp::from_millis(i64::try_from(to).unwrap()), last));
        let grants = ended
            .iter()
            .skip(from)
            .take(page.limit)
            .filter(|(order, _)| order.role.parameters["role_arn"] == fence.name)
            .map(|(order, handle)| EndedGrant {
                id: order.grant,
                backend: BackendName::new("aws").unwrap(),
                handle: Ok(handle.duplicate()),
                created_at: order.issued_at,
                expires_at: order.expires_at,
                fenced_at: None,
            })
            .collect();
        Ok(Ended { grants, next })
    }

    async fn fences(&self, kind: &str, _now: Timestamp) -> Result<Vec<String>, StoreError> {
        assert_eq!(kind, "aws");
        let ended = self.0.lock().unwrap();
        let names = ended.iter().filter_map(|(order, _)| order.role.parameters["role_arn"].as_str());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }
}

/// A cloud and an adapter.
pub(super) struct Lab {
    pub(super) aws: Ministack,
    pub(super) ledger: Arc<Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) backend: AwsBackend,
    pub(super) role: Role,
}

impl Lab {
    pub(super) async fn open() -> Option<Self> {
        Self::open_with(|_, _| {}, &HashMap::new()).await
    }

    /// With other settings, other parameters of the role, and this in the environment.
    pub(super) async fn open_with(
        change: impl FnOnce(&mut Settings, &mut Value),
        environment: &HashMap<String, String>,
    ) -> Option<Self> {
        let aws = Ministack::start().await?;
        aws.bucket(BUCKET).await;
        let trust = trusting(PUBLIC_URL, "hallpass:broker:aws");
        let mut statements = trust["Statement"].as_array().unwrap().clone();
        statements.push(json!({
            "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        }));
        let by_both = json!({"Version": "2012-10-17", "Statement": statements});
        let role_arn = aws.role("deploy", &by_both).await;
        let fence_arn = aws.role_with("hallpass-fence", &by_both, &allow("iam:*")).await;
        let endpoint: url::Url = aws.url().parse().unwrap();
        let mut settings = Settings {
            region: REGION.to_owned(),
            auth: AwsAuth::WebIdentity,
            audience: "sts.amazonaws.com".to_owned(),
            sts_endpoint: endpoint.clone(),
            iam_endpoint: endpoint,
            fence: Some(AwsFence { role_arn: fence_arn, propagation: Ttl::ZERO, fences_all_older: false }),
        };
        let mut role = sample::role("payments/prod/deploy");
        role.parameters = json!({"role_arn": role_arn});
        change(&mut settings, &mut role.parameters);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let ledger: Arc<Ledger> = Arc::default();
        let environment = environment.clone();
        let name = BackendName::new("aws").unwrap();
        let surroundings = Surroundings {
            http: Arc::new(Outbound::new(None).unwrap()),
            clock: Arc::clone(&clock),
            identity: identity(&name, &clock),
            environment: Arc::new(move |name| environment.get(name).cloned()),
            ledger: Arc::clone(&ledger) as Arc<dyn EndedGrants>,
            reservations: Arc::<Reservations>::default(),
        };
        let backend = AwsBackend::new(name, &settings, std::iter::once(&role), surroundings);
        backend.validate(&role).expect("a role that the backend honours");
        Some(Self { aws, ledger, clock, backend, role })
    }

    /// The order of the `n`-th grant, for this long from now.
    pub(super) fn order(&self, n: u64, life: Ttl) -> IssueOrder {
        let issued_at = self.clock.now();
        IssueOrder { issued_at, expires_at: issued_at.plus(life), ..sample::order(n, self.role.clone()) }
    }

    pub(super) async fn mint(&self, order: &IssueOrder) -> Result<(IssuedCredential, Handle), IssueError> {
        let planned = self.backend.plan(order)?;
        let mut issued = self.backend.issue(order, &planned).await?;
        let handle = issued.handle.take().unwrap_or(planned);
        Ok((issued, handle))
    }

    /// The `n`-th session, with what it takes to end it.
    pub(super) async fn session(&self, n: u64) -> (Keys, IssueOrder, Handle) {
        let order = self.order(n, Ttl::from_mins(20));
        let (issued, handle) = self.mint(&order).await.expect("a session");
        (keys(issued), order, handle)
    }
}

pub(super) fn keys(issued: IssuedCredential) -> Keys {
    let CredentialMaterial::Aws { access_key_id, secret_access_key, session_token, .. } = issued.material else {
        panic!("a session");
    };
    Keys {
        id: access_key_id,
        secret: secret_access_key.expose().to_owned(),
        token: Some(session_token.expose().to_owned()),
    }
}

fn identity(name: &BackendName, clock: &Arc<dyn Clock>) -> OwnIdentity {
    let key = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key).unwrap());
    let entropy = Arc::new(SystemEntropy::default());
    let keys = Arc::new(vec![signer]);
    OwnIdentity::new(name.clone(), PUBLIC_URL, SignatureAlgorithm::Es256, keys, Arc::clone(clock), entropy)
}
