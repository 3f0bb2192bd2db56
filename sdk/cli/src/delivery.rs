//! What becomes of a credential: variables and files, in the names that its ecosystem already reads.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hallpass_sdk::wire::{Credential, Grant, Secret};
use serde_json::json;
use tempfile::TempDir;

/// The part of `exec --help` that says what the command finds.
pub(crate) const EXEC_HELP: &str = "\
What the command finds in its environment, by type of credential:
  jwt           HALLPASS_TOKEN
  x509          HALLPASS_CERT_FILE, HALLPASS_KEY_FILE, HALLPASS_CA_FILE
  vault_token   VAULT_TOKEN
  aws           AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_DEFAULT_REGION
  gcp           CLOUDSDK_AUTH_ACCESS_TOKEN, GOOGLE_OAUTH_ACCESS_TOKEN
  azure         AZURE_ACCESS_TOKEN
  github        GITHUB_TOKEN, GH_TOKEN
  kubernetes    KUBECONFIG (a file; where the role names a server), HALLPASS_TOKEN
  database      PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, DATABASE_URL
  ssh           HALLPASS_SSH_CERT_FILE
  vault_secret  HALLPASS_SECRET, the values as JSON
and always HALLPASS_GRANT_ID, HALLPASS_ROLE and HALLPASS_EXPIRES_AT. Files are in a folder that only this user can
read, and are removed when the command ends. The proof of identity is not passed on.

The grant is kept alive by a heartbeat and revoked when the command ends; if this process dies, however it dies, the
broker ends the grant within a minute. SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to the command; those that the
terminal has sent to it already are not sent twice.

Exit status: the command's; 128 + N when signal N ended it; 126 when it cannot be run, 127 when it is not found; before
it runs 1 to 5, see hallpass --help.";

/// The part of `exchange --help` that says what is printed.
pub(crate) const EXCHANGE_HELP: &str = "\
Printed on standard output: the token, for a credential that is one token; else `export NAME='value'` lines for a shell
to evaluate, in the names of `exec`; a certificate and its key as PEM, a cluster as a kubeconfig, unless --files says
where to put them. With --output json the grant and the credential as the broker sent them. The grant lives until its
time is over or `hallpass grants revoke` ends it.";

/// A credential in its ecosystem's form.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) variables: Vec<(&'static str, Secret)>,
    pub(crate) files: Vec<CredentialFile>,
}

/// One file of a credential, and the variable that names it.
#[derive(Debug)]
pub(crate) struct CredentialFile {
    name: &'static str,
    variable: &'static str,
    pub(crate) content: Secret,
}

/// How to hand over a credential.
pub(crate) fn delivery(credential: &Credential) -> anyhow::Result<Delivery> {
    let mut made = Delivery::default();
    match credential {
        Credential::Jwt { token, .. } => made.secret("HALLPASS_TOKEN", token),
        Credential::VaultToken { token, .. } => made.secret("VAULT_TOKEN", token),
        Credential::Azure { access_token, .. } => made.secret("AZURE_ACCESS_TOKEN", access_token),
        Credential::Gcp { access_token, .. } => {
            made.secret("CLOUDSDK_AUTH_ACCESS_TOKEN", access_token);
            made.secret("GOOGLE_OAUTH_ACCESS_TOKEN", access_token);
        }
        Credential::GitHub { token, .. } => {
            made.secret("GITHUB_TOKEN", token);
            made.secret("GH_TOKEN", token);
        }
        Credential::Aws { access_key_id, secret_access_key, session_token, region, .. } => {
            made.plain("AWS_ACCESS_KEY_ID", access_key_id);
            made.secret("AWS_SECRET_ACCESS_KEY", secret_access_key);
            made.secret("AWS_SESSION_TOKEN", session_token);
            if let Some(region) = region {
                made.plain("AWS_REGION", region);
                made.plain("AWS_DEFAULT_REGION", region);
            }
        }
        Credential::Database { username, password, host, port, database, url, .. } => {
            made.plain("PGHOST", host);
            made.plain("PGPORT", &port.to_string());
            made.plain("PGUSER", username);
            made.secret("PGPASSWORD", password);
            made.plain("PGDATABASE", database);
            made.secret("DATABASE_URL", url);
        }
        Credential::VaultSecret { data, .. } => {
            made.plain("HALLPASS_SECRET", &serde_json::to_string(data.expose())?);
        }
        Credential::X509 { certificate_chain, private_key, trust_bundle, .. } => {
            made.file("cert.pem", "HALLPASS_CERT_FILE", certificate_chain);
            if let Some(key) = private_key {
                made.file("key.pem", "HALLPASS_KEY_FILE", key.expose());
            }
            made.file("ca.pem", "HALLPASS_CA_FILE", trust_bundle);
        }
        Credential::Kubernetes { token, server, ca, .. } => {
            made.secret("HALLPASS_TOKEN", token);
            if let Some(server) = server {
                made.file("kubeconfig", "KUBECONFIG", &kubeconfig(token, server, ca.as_deref())?);
            }
        }
        Credential::Ssh { certificate, .. } => {
            made.file("hallpass-cert.pub", "HALLPASS_SSH_CERT_FILE", &format!("{}\n", certificate.trim_end()));
        }
        Credential::Unknown => bail!("this version of hallpass does not know the credential's type: update it"),
    }
    Ok(made)
}

impl Delivery {
    fn secret(&mut self, name: &'static str, value: &Secret) {
        self.plain(name, value.expose());
    }

    fn plain(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, Secret::new(value.to_owned())));
    }

    fn file(&mut self, name: &'static str, variable: &'static str, content: &str) {
        self.files.push(CredentialFile { name, variable, content: Secret::new(content.to_owned()) });
    }

    /// Says of which grant the credential is.
    pub(crate) fn describe(&mut self, grant: &Grant) {
        self.plain("HALLPASS_GRANT_ID", &grant.id);
        self.plain("HALLPASS_ROLE", &grant.role);
        self.plain("HALLPASS_EXPIRES_AT", &grant.expires_at.to_string());
    }

    /// Writes the files and names them in variables.
    pub(crate) fn place(&mut self, folder: &mut Folder) -> anyhow::Result<()> {
        for file in std::mem::take(&mut self.files) {
            let path = folder.write(file.name, &file.content)?;
            let path = path.to_str().context("the folder's name is not text")?.to_owned();
            self.plain(file.variable, &path);
        }
        Ok(())
    }
}

/// A kubeconfig, in the JSON that is YAML too.
fn kubeconfig(token: &Secret, server: &str, ca: Option<&str>) -> anyhow::Result<String> {
    let mut cluster = json!({"server": server});
    if let (Some(ca), Some(cluster)) = (ca, cluster.as_object_mut()) {
        cluster.insert("certificate-authority-data".to_owned(), base64(ca.as_bytes()).into());
    }
    Ok(serde_json::to_string_pretty(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "hallpass", "cluster": cluster}],
        "users": [{"name": "hallpass", "user": {"token": token.expose()}}],
        "contexts": [{"name": "hallpass", "context": {"cluster": "hallpass", "user": "hallpass"}}],
        "current-context": "hallpass",
    }))?)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A folder for files that only this user may read. What was written is removed when it is dropped, unless kept.
pub(crate) struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
    made: bool,
    written: Vec<PathBuf>,
}

impl Folder {
    /// A new folder under the user's run-time folder, which is memory on most systems, or else the temporary one.
    pub(crate) fn temporary() -> anyhow::Result<Self> {
        let under = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let temporary = tempfile::Builder::new()
            .prefix("hallpass-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&under)
            .with_context(|| format!("no folder can be made in {}", under.display()))?;
        Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary), made: false, written: Vec::new() })
    }

    /// The folder at `path`, made when it is not there.
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        let made = !path.is_dir();
        if made {
            DirBuilder::new()
                .mode(0o700)
                .create(path)
                .with_context(|| format!("the folder {} cannot be made", path.display()))?;
        }
        // The command may run elsewhere, so it is told where the files are from the root.
        let path = path.canonicalize().with_context(|| format!("the folder {} cannot be used", path.display()))?;
        Ok(Self { path, temporary: None, made, written: Vec::new() })
    }

    fn write(&mut self, name: &str, content: &Secret) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        // `create_new` follows no link that somebody put there.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        self.written.push(path.clone());
        file.write_all(content.expose().as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    /// Leaves the files where they are.
    pub(crate) fn keep(mut self) {
        self.written.clear();
        self.made = false;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for path in &self.written {
            // It may have been removed by the command; nothing else can be done about it here.
            let _ = fs::remove_file(path);
        }
        if self.made {
            let _ = fs::remove_dir(&self.path);
        }
        drop(self.temporary.take());
    }
}
