//! From bundles to revisions that can be put into force.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::port::{Candidate, CompileError, Files, OnceRecorded, Press, SignatureAlgorithm};

use super::composer::{BackendsHealth, Built, Composer, Domains, Verifiers};
use crate::backend::x509::Authorities;
use crate::config::Finding;
use crate::config::bundle::Bundle;
use crate::runtime::governed::Governed;

/// What goes from one revision to the next, or is looked up beside it.
#[derive(Clone, Default)]
pub(super) struct Kept {
    /// Verifiers with the keys that they have fetched, for issuers that stay the same.
    pub(super) verifiers: Arc<Verifiers>,
    /// The same of trust domains, with their bundles.
    pub(super) domains: Arc<Domains>,
    /// The one built-in authority.
    pub(super) authorities: Option<Arc<Authorities>>,
    /// Adapters with their sessions, for backends that stay the same.
    pub(super) built: Arc<Built>,
    /// How the backends have been.
    pub(super) health: Arc<BackendsHealth>,
    /// How the tokens are to be signed.
    pub(super) asked_algorithms: Arc<HashSet<SignatureAlgorithm>>,
}

/// Makes revisions, and puts them into force here.
#[derive(Clone)]
pub(super) struct BundlePress {
    pub(super) composer: Arc<Composer>,
    pub(super) governed: Arc<Governed>,
}

impl BundlePress {
    /// The revision of a bundle.
    ///
    /// # Errors
    /// What the backends find wrong with it.
    pub(super) fn candidate(&self, bundle: Bundle) -> Result<Candidate, Vec<Finding>> {
        let (revision, kept) = self.composer.compose(&bundle)?;
        let revision = Arc::new(revision);
        let (press, composed) = (self.clone(), Arc::clone(&revision));
        let put_in_force = move || {
            press.composer.adopt(kept.clone());
            press.governed.replace(Arc::clone(&composed));
        };
        let Bundle { files, named, mut warnings, advice, .. } = bundle;
        warnings.extend(advice);
        Ok(Candidate { revision, files, named, warnings, put_in_force: OnceRecorded::does(put_in_force) })
    }
}

#[async_trait]
impl Press for BundlePress {
    async fn compile(&self, files: Files) -> Result<Candidate, CompileError> {
        let press = self.clone();
        // Parsing and validating a large bundle takes seconds.
        let compiling =
            tokio::task::spawn_blocking(move || Bundle::from_files(files).and_then(|bundle| press.candidate(bundle)));
        match compiling.await {
            Ok(compiled) => compiled.map_err(CompileError::Invalid),
            Err(error) => {
                tracing::error!(%error, "a bundle could not be compiled");
                Err(CompileError::Unavailable("the bundle could not be compiled; nothing was changed".to_owned()))
            }
        }
    }
}
