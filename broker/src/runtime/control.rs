//! The control socket: how a command on the same machine asks a running broker, which alone may write the store.
//!
//! It lies beside the store, mode 0600, so that whoever connects could open the store too. The caller also shows that it
//! can unwrap the store's data key: its request carries a digest keyed by it.
//!
//! A command is carried out to its end, also when its caller does not wait for that: a key that is changed halfway would be
//! one thing in the store and another in use.

mod callers;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hallpass_core::id::KeyId;
use hallpass_core::port::{KeyPurpose, Sealer, SignatureAlgorithm};
use hallpass_core::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::keys::{CertificateRequest, KeyView, Rewrapped};

use self::callers::{Asked, Callers};

/// Longest answer in bytes: a list of keys has those that were distrusted long ago.
const MAX_ANSWER: u64 = 1024 * 1024;
/// How long one exchange may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long a caller may take to take its answer: the next one waits meanwhile.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// Requests that wait for those before them. More are closed unanswered.
const WAITING: usize = 32;
/// How long a command's end is awaited. What takes longer goes on, and its caller is told so, before the deadline.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How long nobody is let in when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);
/// Commands that may go on without a caller.
const UNFINISHED: usize = 8;
/// How old a request may be: a digest that somebody recorded is worth nothing a minute later.
const FRESH: Ttl = Ttl::from_secs(60);

/// A command with what shows that it was given lately by somebody who can unwrap the store's data key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is to be done.
    pub command: Command,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// Keyed digest over all of that.
    pub digest: String,
}

/// What can be asked of a running broker.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Opens a grant of the built-in operator's role.
    OperatorToken {
        /// Why.
        purpose: String,
        /// How long, in seconds.
        ttl: Option<u64>,
    },
    /// Concerns the signing keys.
    Keys(KeyCommand),
    /// Has the data key kept in another wrapping, and sealed under it what is sealed otherwise.
    Rewrap {
        /// Its id.
        data_key: String,
        /// The wrapping that it was read in: somebody may have wrapped it anew since.
        read: WrappedKey,
        /// The new wrapping; the one that it has, when none is said.
        wrapping: Option<WrappedKey>,
    },
}

/// The data key as a key-encryption key wrapped it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// What that key is called.
    pub kek: String,
    /// Which version of it.
    pub version: String,
    /// The wrapped key, in base64.
    pub wrapped: String,
}

/// What can be asked of the signing keys.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyCommand {
    /// Which there are.
    List,
    /// Announce new ones.
    Rotate {
        /// What they sign.
        purpose: KeyPurpose,
        /// How; all that the broker makes for the purpose, when none is said.
        algorithm: Option<SignatureAlgorithm>,
        /// How long they are published before they sign, in seconds.
        activate_after: Option<u64>,
    },
    /// Take in one that was made elsewhere. It is sealed before it comes this way.
    Import {
        /// The id that it was sealed for.
        id: KeyId,
        /// What it signs.
        purpose: KeyPurpose,
        /// How.
        algorithm: SignatureAlgorithm,
        /// PKCS #8, sealed for its place in the store, in base64.
        sealed_private_key: String,
        /// How long it is published before it signs, in seconds.
        activate_after: Option<u64>,
    },
    /// Have the request for an offline root made of an authority key: a new one, when none is said.
    Request {
        /// Its `kid`.
        key_id: Option<String>,
    },
    /// Take in what an offline root certified.
    Certify {
        /// The key's certificate, and those above it, PEM.
        certificates: String,
        /// How long they are published before the key signs, in seconds.
        activate_after: Option<u64>,
    },
    /// Have nothing that a key signed count any longer.
    Distrust {
        /// Its `kid`.
        key_id: String,
        /// Why.
        reason: String,
    },
}

impl Request {
    /// A request with its digest.
    #[must_use]
    pub fn new(command: Command, asked_at: Timestamp, sealer: &dyn Sealer) -> Self {
        // Without a key it is none, which nobody takes for genuine.
        let digest = digest(&command, asked_at, sealer).unwrap_or_default();
        Self { command, asked_at, digest }
    }

    /// Whether it was made lately by somebody who can unwrap the store's data key.
    #[must_use]
    pub fn is_genuine(&self, sealer: &dyn Sealer, now: Timestamp) -> bool {
        use subtle::ConstantTimeEq as _;
        let Some(expected) = digest(&self.command, self.asked_at, sealer) else { return false };
        let fresh = now.since(self.asked_at) <= FRESH && self.asked_at.since(now) <= FRESH;
        fresh && bool::from(expected.as_bytes().ct_eq(self.digest.as_bytes()))
    }
}

fn digest(command: &Command, asked_at: Timestamp, sealer: &dyn Sealer) -> Option<String> {
    let content = serde_json::json!(["control", command, asked_at]);
    sealer.fingerprint(content.to_string().as_bytes())
}

/// What the broker answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The token; it is shown once.
    Token(String),
    /// The keys that were asked for, or changed.
    Keys(Vec<KeyView>),
    /// What an offline root is to sign.
    Request(CertificateRequest),
    /// How the data key is wrapped now.
    Rewrapped(Rewrapped),
    /// Why not.
    Refused(String),
    /// It takes longer than its caller is kept waiting, and goes on.
    Unfinished,
}

/// Where the socket of the store at `store` lies.
#[must_use]
pub fn socket_path(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".control");
    PathBuf::from(path)
}

/// Listens beside the store. The caller holds the store's lock, so that a socket found there is a dead process's.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(store: &Path) -> io::Result<UnixListener> {
    let path = socket_path(store);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers requests, one at a time, until `stopped`. What they ask for runs among `tasks`.
pub async fn serve<A, F>(listener: UnixListener, stopped: impl Future<Output = ()>, tasks: &TaskTracker, answer: A)
where
    A: Fn(Request) -> F,
    F: Future<Output = Answer> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(UNFINISHED));
    let carry_out = |request: Request| carry_out(tasks, &places, answer(request));
    let (said, mut asked) = mpsc::channel(WAITING);
    let hearing = async {
        let mut callers = Callers::new(said);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => callers.hear(stream),
                // Descriptors ran out: those that are here are heard first.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    let answering = async {
        while let Some(asked) = asked.recv().await {
            if converse(asked, &carry_out).await.is_err() {
                tracing::warn!("a caller at the control socket did not take its answer");
            }
        }
    };
    tokio::select! {
        () = stopped => {}
        () = hearing => {}
        () = answering => {}
    }
}

async fn converse<A, F>(Asked { mut stream, line }: Asked, answer: &A) -> io::Result<()>
where
    A: Fn(Request) -> F,
    F: Future<Output = Answer>,
{
    let answered = match serde_json::from_str(&line) {
        Ok(request) => answer(request).await,
        Err(error) => Answer::Refused(format!("not a request: {error}")),
    };
    let mut text = serde_json::to_string(&answered)?;
    text.push('\n');
    tokio::time::timeout(TAKEN_WITHIN, stream.write_all(text.as_bytes())).await?
}

async fn carry_out(
    tasks: &TaskTracker,
    places: &Arc<Semaphore>,
    command: impl Future<Output = Answer> + Send + 'static,
) -> Answer {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return Answer::Refused("too many commands are still being carried out; ask again later".to_owned());
    };
    let carried_out = tasks.spawn(async move {
        let answer = command.await;
        drop(place);
        answer
    });
    match tokio::time::timeout(ANSWERED_WITHIN, carried_out).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::Refused(format!("the command failed: {error}")),
        Err(_) => Answer::Unfinished,
    }
}

/// Asks the broker that runs on the store at `store`; `None` when none listens.
///
/// # Errors
/// When the conversation fails; [`is_unknown`] says whether the broker may have done what was asked.
pub async fn ask(store: &Path, request: &Request) -> io::Result<Option<Answer>> {
    let mut stream = match UnixStream::connect(socket_path(store)).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let talk = async {
        let mut text = serde_json::to_string(request)?;
        text.push('\n');
        stream.write_all(text.as_bytes()).await?;
        let mut line = String::new();
        BufReader::new((&mut stream).take(MAX_ANSWER)).read_line(&mut line).await?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker ended before it answered"));
        }
        Ok::<_, io::Error>(serde_json::from_str(&line)?)
    };
    tokio::time::timeout(DEADLINE, talk).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(Some)
}

/// Whether a conversation that failed so leaves it open what the broker did.
#[must_use]
pub fn is_unknown(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | TimedOut)
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::TestSealer;
    use hallpass_core::testing::sample::NOW;
    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn without_a_key_nothing_is_genuine() {
        let locked = crate::keys::DataKeySealer::locked(Arc::new(hallpass_core::testing::SeededEntropy::new(1)));
        let asked = |sealer: &dyn Sealer| Request::new(Command::Keys(KeyCommand::List), NOW, sealer);
        let (open, other) = (TestSealer::new(1), TestSealer::new(2));
        assert!(!asked(&locked).is_genuine(&locked, NOW) && !asked(&locked).is_genuine(&open, NOW));
        assert!(!asked(&open).is_genuine(&locked, NOW) && !asked(&other).is_genuine(&open, NOW));
        assert!(asked(&open).is_genuine(&open, NOW), "the control");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_longer_than_its_caller_waits_is_carried_out_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("hallpass.db");
        let (goes_on, done, tasks) = (Arc::new(Notify::new()), Arc::new(Notify::new()), TaskTracker::new());
        let answer = {
            let (goes_on, done) = (Arc::clone(&goes_on), Arc::clone(&done));
            move |request: Request| {
                let (goes_on, done) = (Arc::clone(&goes_on), Arc::clone(&done));
                async move {
                    if matches!(request.command, Command::Keys(KeyCommand::List)) {
                        return Answer::Keys(Vec::new());
                    }
                    goes_on.notified().await;
                    done.notify_one();
                    Answer::Keys(Vec::new())
                }
            }
        };
        let (listener, of_server) = (listen(&store).unwrap(), tasks.clone());
        let serving = tokio::spawn(async move { serve(listener, std::future::pending(), &of_server, answer).await });
        let asked = async |command: KeyCommand| {
            let request = Request::new(Command::Keys(command), NOW, &TestSealer::new(1));
            ask(&store, &request).await.unwrap().unwrap()
        };
        let slow = || KeyCommand::Distrust { key_id: "a".to_owned(), reason: "b".to_owned() };
        for _ in 0..UNFINISHED {
            assert!(matches!(asked(slow()).await, Answer::Unfinished));
        }
        assert!(matches!(asked(slow()).await, Answer::Refused(_)), "they are bounded");
        goes_on.notify_one();
        done.notified().await;
        assert!(matches!(asked(KeyCommand::List).await, Answer::Keys(_)), "the control: it is answered");
        serving.abort();
    }

    /// Neither those who say nothing nor those who stop in the middle.
    #[tokio::test]
    async fn an_operator_gets_in_however_many_callers_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("hallpass.db");
        let (listener, tasks) = (listen(&store).unwrap(), TaskTracker::new());
        let serving = tokio::spawn(async move {
            let answer = |_| async { Answer::Keys(Vec::new()) };
            serve(listener, std::future::pending(), &tasks, answer).await;
        });
        let mut silent = Vec::new();
        for n in 0..3 * callers::CALLERS {
            let mut stream = UnixStream::connect(socket_path(&store)).await.unwrap();
            if n % 2 == 0 {
                stream.write_all(b"{\"command\"").await.unwrap();
            }
            silent.push(stream);
        }
        let request = Request::new(Command::Keys(KeyCommand::List), NOW, &TestSealer::new(1));
        let asked = tokio::time::timeout(Duration::from_secs(1), ask(&store, &request)).await;
        assert!(matches!(asked.expect("at once").unwrap(), Some(Answer::Keys(_))));
        // And whoever was sent away, or says nothing for too long, is gone.
        for mut stream in silent {
            let mut rest = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
            let _: io::Result<usize> = read.expect("it is closed");
            assert!(rest.is_empty());
        }
        assert!(ask(&store, &request).await.unwrap().is_some(), "the control: it is there all the while");
        serving.abort();
    }
}
