//! A client certificate as proof: an X.509-SVID, shown in the TLS handshake.

use super::{Proof, ProofContext, ProofFuture, ProofSource};

/// The certificate that the client was built with. Nothing of it is sent: the handshake shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificate;

impl ProofSource for ClientCertificate {
    fn name(&self) -> &'static str {
        "certificate"
    }

    /// The files are read when the client is built, and not again.
    fn refreshable(&self) -> bool {
        false
    }

    fn fetch<'a>(&'a self, _context: &'a ProofContext<'a>) -> ProofFuture<'a> {
        Box::pin(async { Ok(Proof::shown_in_the_handshake()) })
    }
}
