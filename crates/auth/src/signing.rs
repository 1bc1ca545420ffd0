//! The keys that sign tokens: one that signs, and those before it, which are taken until what they signed has ended.
//!
//! The first key is the secret that comes from the master key, or `AUTH_JWT_SECRET`. Every other one stands in a file
//! of the data folder, which the command line writes and a running gateway reads again, so that a rotation needs no
//! restart and logs nobody out. What algorithm a token is checked by is said by its key, never by the token.
//!
//! Only a gateway that starts goes to another algorithm or secret. The file also notes the keys that have come to
//! sign; the gateway takes the note away when that is in the audit log.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::RwLock;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use stack_types::{Problem, Timestamp};

use crate::access::unauthenticated;
use crate::keys::KeySource;
use crate::secret;

/// The keys' file in the data folder.
const FILE: &str = "signing-keys.json";
/// Whoever changes that file has locked this one.
const LOCK_FILE: &str = "signing-keys.lock";
/// Nothing we write comes near it.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// How long a key is taken after another has taken its place; more when tokens live longer.
const OVERLAP: Duration = Duration::from_secs(2 * 60 * 60);
/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How far ahead of ours the clock may be that a token was made by.
const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// With a secret that only this server knows.
    #[default]
    #[serde(rename = "HS256")]
    Hs256,
    /// With a key whose public half stands in `/.well-known/jwks.json`, so that others can check tokens too.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Why there are no keys to sign with.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The file cannot be read or written.
    #[error("cannot {what} the signing keys in {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{0} does not hold signing keys")]
    Malformed(PathBuf),
    /// The file's key that signs is not one that this gateway is to sign with.
    #[error(
        "{0} has another way of signing than this gateway: restart it, or rotate with its settings"
    )]
    NotOurs(PathBuf),
    /// There is no other key to go to.
    #[error(
        "tokens are signed with AUTH_JWT_SECRET: change that secret, or set auth.signing to eddsa"
    )]
    Fixed,
    /// The cryptographic library refused.
    #[error("cannot make a signing key")]
    Crypto,
}

/// A key as the command line lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SigningKeyView {
    /// Its name in tokens.
    pub kid: String,
    /// How it signs.
    pub alg: SigningAlgorithm,
    /// When it was made; 0 for the first one.
    pub created_at: Timestamp,
    /// Until when its tokens are taken, when another signs now.
    pub retires_at: Option<Timestamp>,
}

/// A key as it stands in the file. The first one has no secret there: it comes from elsewhere.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    kid: String,
    alg: SigningAlgorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retires_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Stand {
    keys: Vec<Stored>,
    /// The keys that have come to sign without that being in the audit log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unrecorded: Vec<String>,
}

struct Key {
    kid: String,
    alg: SigningAlgorithm,
    encoding: EncodingKey,
    decoding: DecodingKey,
    public: Option<Vec<u8>>,
    retires_at: Option<Timestamp>,
}

struct State {
    /// Oldest first; the last one signs.
    keys: Vec<Key>,
    stand: Vec<Stored>,
    unrecorded: Vec<String>,
    /// The file's key that signs came from a secret that is not ours.
    fell_back: bool,
}

/// What is asked of the keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Whether the first key is `AUTH_JWT_SECRET`.
    pub(crate) first_is_given: bool,
    pub(crate) algorithm: SigningAlgorithm,
    /// How long a token can live.
    pub(crate) token_lifetime: Duration,
}

/// Keys that are to be put on record. The file stays locked for as long.
pub(crate) struct Unrecorded {
    pub(crate) kids: Vec<String>,
    stand: Stand,
    _lock: File,
}

/// The part of a token's header that we look at.
#[derive(Deserialize)]
struct Head {
    alg: Algorithm,
    typ: Option<String>,
    kid: Option<String>,
    /// Extensions that must be understood. We understand none.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

/// When a token begins. Other programs with the shared secret may write fractions.
#[derive(Deserialize)]
struct Begin {
    iat: Option<f64>,
    nbf: Option<f64>,
}

/// The keys that are in use.
pub(crate) struct Ring {
    first: Vec<u8>,
    rules: Rules,
    path: Option<PathBuf>,
    state: RwLock<Arc<State>>,
    looked_at: AtomicU64,
    modified: RwLock<Option<Stamp>>,
}

impl Ring {
    /// Reads the keys, for a gateway that starts: a change of the algorithm or of the secret is a rotation.
    pub(crate) fn load(
        source: &KeySource,
        first: &[u8],
        rules: Rules,
        now: Timestamp,
    ) -> Result<Self, SigningError> {
        let ring = Self::open(source, first, rules, now)?;
        if !ring.is_ours(&ring.state()) || ring.state().fell_back {
            let _lock = ring.lock()?;
            ring.look(now, false)?;
            let next = match (rules.first_is_given, rules.algorithm) {
                (true, SigningAlgorithm::Hs256) => Stored::first(first),
                (false, SigningAlgorithm::Hs256) if ring.state().fell_back => Stored::first(first),
                (_, algorithm) => Stored::generate(algorithm, now)?,
            };
            ring.put_in_front(next, now)?;
        }
        Ok(ring)
    }

    /// Reads the keys as they are and changes nothing.
    pub(crate) fn open(
        source: &KeySource,
        first: &[u8],
        rules: Rules,
        now: Timestamp,
    ) -> Result<Self, SigningError> {
        // The library panics when another dependency turns a second provider on and none was chosen. That one is
        // chosen already is no error.
        let _ = aws_lc::DEFAULT_PROVIDER.install_default();
        let path = match source {
            KeySource::Directory(folder) => Some(folder.join(FILE)),
            KeySource::Ephemeral => None,
        };
        let stand = Stand {
            keys: vec![Stored::first(first)],
            unrecorded: Vec::new(),
        };
        let ring = Self {
            first: first.to_vec(),
            rules,
            state: RwLock::new(Arc::new(State::of(stand, first, rules)?)),
            path,
            looked_at: AtomicU64::new(0),
            modified: RwLock::new(None),
        };
        ring.look(now, false)?;
        Ok(ring)
    }

    /// Makes a new key that signs from now on, in the way the one before it did.
    pub(crate) fn rotate(&self, now: Timestamp) -> Result<(), SigningError> {
        let _lock = self.lock()?;
        self.look(now, false)?;
        let state = self.state();
        let signs = state.stand.last().ok_or(SigningError::Crypto)?;
        // Signed with a secret that was given: to us, or to a gateway that has other settings than we do.
        if state.fell_back || self.rules.first_is_given && signs.alg == SigningAlgorithm::Hs256 {
            return Err(SigningError::Fixed);
        }
        self.put_in_front(Stored::generate(signs.alg, now)?, now)
    }

    /// Whether the key that signs is one that we are to sign with.
    fn is_ours(&self, state: &State) -> bool {
        state.keys.last().is_some_and(|key| {
            key.alg == self.rules.algorithm
                // A secret that was given is what signs, as soon as it is given.
                && (!self.rules.first_is_given
                    || key.alg != SigningAlgorithm::Hs256
                    || key.kid == key_id(&self.first))
        })
    }

    /// Keeps others from changing the file until it is dropped.
    fn lock(&self) -> Result<Option<File>, SigningError> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        let file = lock_file(path)?;
        file.lock().map_err(|source| fault("lock", path, source))?;
        Ok(Some(file))
    }

    fn put_in_front(&self, next: Stored, now: Timestamp) -> Result<(), SigningError> {
        let state = self.state();
        let mut keys = state.stand.clone();
        keys.retain(|key| {
            key.kid != next.kid && key.retires_at.is_none_or(|retires_at| now < retires_at)
        });
        for key in &mut keys {
            key.retires_at.get_or_insert(now.plus(self.rules.overlap()));
        }
        let mut unrecorded = state.unrecorded.clone();
        unrecorded.push(next.kid.clone());
        keys.push(next);
        let stand = Stand { keys, unrecorded };
        if let Some(path) = &self.path {
            write(path, &stand)?;
            *self.modified.write() = modified(path);
        }
        *self.state.write() = Arc::new(State::of(stand, &self.first, self.rules)?);
        Ok(())
    }

    /// Reads the file again when it has changed. A gateway that runs takes only what it is to sign with.
    fn look(&self, now: Timestamp, runs: bool) -> Result<(), SigningError> {
        self.looked_at.store(now.0, Ordering::Relaxed);
        let Some(path) = &self.path else {
            return Ok(());
        };
        let changed = modified(path);
        if changed.is_none() || changed == *self.modified.read() {
            return Ok(());
        }
        let Some(stand) = read(path)? else {
            return Ok(());
        };
        let state = State::of(stand, &self.first, self.rules)?;
        // Told once for each change, not with every look.
        *self.modified.write() = changed;
        if runs && !self.is_ours(&state) {
            return Err(SigningError::NotOurs(path.clone()));
        }
        let kid = |state: &State| state.keys.last().map(|key| key.kid.clone());
        if let Some(signs) = kid(&state)
            && kid(&self.state()).as_ref() != Some(&signs)
        {
            tracing::info!(kid = signs, "tokens are signed with the key {signs}");
        }
        *self.state.write() = Arc::new(state);
        Ok(())
    }

    /// The keys that have come to sign and are not on record. None when somebody is changing the file: they are
    /// there the next time.
    pub(crate) fn unrecorded(&self, now: Timestamp) -> Result<Option<Unrecorded>, SigningError> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        if self.fresh(now).unrecorded.is_empty() {
            return Ok(None);
        }
        let lock = lock_file(path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(source)) => return Err(fault("lock", path, source)),
        }
        let Some(mut stand) = read(path)? else {
            return Ok(None);
        };
        Ok(Some(Unrecorded {
            kids: std::mem::take(&mut stand.unrecorded),
            stand,
            _lock: lock,
        }))
    }

    /// Takes the note away: the keys are on record. The next look sees it.
    pub(crate) fn recorded(&self, unrecorded: &Unrecorded) -> Result<(), SigningError> {
        match &self.path {
            Some(path) => write(path, &unrecorded.stand),
            None => Ok(()),
        }
    }

    fn state(&self) -> Arc<State> {
        self.state.read().clone()
    }

    /// The keys as of now. A file that is at fault changes nothing: whoever wrote it was told so.
    fn fresh(&self, now: Timestamp) -> Arc<State> {
        let looked_at = Timestamp(self.looked_at.load(Ordering::Relaxed));
        if now.since(looked_at) >= LOOK_EVERY
            && let Err(error) = self.look(now, true)
        {
            tracing::error!(%error, "the signing keys stay as they are: {error}");
        }
        self.state()
    }

    /// Signs claims.
    pub(crate) fn sign(
        &self,
        typ: &str,
        claims: &impl Serialize,
        now: Timestamp,
    ) -> Result<String, Problem> {
        let state = self.fresh(now);
        let key = state
            .keys
            .last()
            .ok_or_else(|| Problem::internal(SigningError::Crypto))?;
        let header = Header {
            typ: Some(typ.to_owned()),
            kid: Some(key.kid.clone()),
            ..Header::new(key.alg.jwa())
        };
        jsonwebtoken::encode(&header, claims, &key.encoding).map_err(Problem::internal)
    }

    /// Reads what a key of ours has signed for this issuer and audience. Whether it has ended is not looked at.
    pub(crate) fn read<C: DeserializeOwned>(
        &self,
        token: &str,
        typ: &str,
        issuer: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<C, Problem> {
        let header: Head = part(token, 0)?;
        let is_other = |said: String| !said.eq_ignore_ascii_case(typ);
        if header.crit || header.typ.is_some_and(is_other) {
            return Err(unauthenticated());
        }
        let state = self.fresh(now);
        let taken = |key: &&Key| key.retires_at.is_none_or(|retires_at| now < retires_at);
        let first = key_id(&self.first);
        // Another program that has the shared secret does not know what we call it; a name that is not ours is a
        // token of somebody else's key, or of a key that was replaced.
        let kid = header.kid.as_deref().unwrap_or(&first);
        let key = state.keys.iter().filter(taken).find(|key| key.kid == kid);
        let key = key.ok_or_else(unauthenticated)?;
        if header.alg != key.alg.jwa() {
            return Err(unauthenticated());
        }
        let mut validation = Validation::new(key.alg.jwa());
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library asks the system for the time; ours is injected.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<C>(token, &key.decoding, &validation)
            .map_err(|_| unauthenticated())?
            .claims;
        let begin: Begin = part(token, 1)?;
        let latest = Duration::from_millis(now.plus(CLOCK_SKEW).0).as_secs_f64();
        let is_ahead = |begins: Option<f64>| begins.is_some_and(|begins| begins > latest);
        if is_ahead(begin.iat) || is_ahead(begin.nbf) {
            return Err(unauthenticated());
        }
        Ok(claims)
    }

    /// The public halves of the keys that have one, as RFC 7517 and RFC 8037 write them.
    pub(crate) fn public_keys(&self, now: Timestamp) -> Value {
        let state = self.fresh(now);
        let taken = |key: &&Key| key.retires_at.is_none_or(|retires_at| now < retires_at);
        let keys: Vec<Value> = state
            .keys
            .iter()
            .filter(taken)
            .filter_map(|key| {
                let x = URL_SAFE_NO_PAD.encode(key.public.as_ref()?);
                Some(
                    json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                    "kid": key.kid, "x": x}),
                )
            })
            .collect();
        json!({ "keys": keys })
    }

    /// Every key as it stands in the file, without its secret.
    pub(crate) fn list(&self) -> Result<Vec<SigningKeyView>, SigningError> {
        let view = |key: &Stored| SigningKeyView {
            kid: key.kid.clone(),
            alg: key.alg,
            created_at: key.created_at,
            retires_at: key.retires_at,
        };
        Ok(
            match self.path.as_deref().map(read).transpose()?.flatten() {
                Some(stand) => stand.keys.iter().map(view).collect(),
                None => self.state().stand.iter().map(view).collect(),
            },
        )
    }
}

impl Rules {
    fn overlap(self) -> Duration {
        OVERLAP.max(self.token_lifetime)
    }
}

impl SigningAlgorithm {
    fn jwa(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl Stored {
    fn first(secret: &[u8]) -> Self {
        Self {
            kid: key_id(secret),
            alg: SigningAlgorithm::Hs256,
            secret: None,
            created_at: Timestamp(0),
            retires_at: None,
        }
    }

    fn generate(alg: SigningAlgorithm, now: Timestamp) -> Result<Self, SigningError> {
        let secret = match alg {
            SigningAlgorithm::Hs256 => {
                let mut bytes = [0u8; secret::SECRET_BYTES];
                rand::fill(&mut bytes).map_err(|_| SigningError::Crypto)?;
                bytes.to_vec()
            }
            SigningAlgorithm::EdDsa => {
                let rng = rand::SystemRandom::new();
                let key = Ed25519KeyPair::generate_pkcs8(&rng).map_err(|_| SigningError::Crypto)?;
                key.as_ref().to_vec()
            }
        };
        Ok(Self {
            kid: key_id(&secret),
            alg,
            secret: Some(secret::to_text(&secret)),
            created_at: now,
            retires_at: None,
        })
    }
}

impl State {
    /// The keys of a file; a key without a secret is the first one, and is left out when that was replaced.
    fn of(stand: Stand, first: &[u8], rules: Rules) -> Result<Self, SigningError> {
        let Stand {
            keys: mut stand,
            unrecorded,
        } = stand;
        let first_id = key_id(first);
        // Whoever rotated may not have known how long our tokens live.
        for at in 1..stand.len() {
            let least = stand[at].created_at.plus(rules.overlap());
            if let Some(retires_at) = &mut stand[at - 1].retires_at {
                *retires_at = least.max(*retires_at);
            }
        }
        let mut keys = Vec::new();
        for stored in &stand {
            let secret = match &stored.secret {
                Some(text) => URL_SAFE_NO_PAD
                    .decode(text)
                    .map_err(|_| SigningError::Crypto)?,
                None if stored.kid == first_id => first.to_vec(),
                None => continue,
            };
            let public = match stored.alg {
                SigningAlgorithm::Hs256 => None,
                SigningAlgorithm::EdDsa => {
                    let pair =
                        Ed25519KeyPair::from_pkcs8(&secret).map_err(|_| SigningError::Crypto)?;
                    Some(pair.public_key().as_ref().to_vec())
                }
            };
            keys.push(Key {
                kid: stored.kid.clone(),
                alg: stored.alg,
                encoding: match stored.alg {
                    SigningAlgorithm::Hs256 => EncodingKey::from_secret(&secret),
                    SigningAlgorithm::EdDsa => EncodingKey::from_ed_der(&secret),
                },
                decoding: match &public {
                    None => DecodingKey::from_secret(&secret),
                    Some(public) => DecodingKey::from_ed_der(public),
                },
                public,
                retires_at: stored.retires_at,
            });
        }
        // A file whose last key came from a secret that is no more: what is there now takes its place.
        let fell_back = keys.last().is_none_or(|key| key.retires_at.is_some());
        if fell_back {
            let key = Stored::first(first);
            stand.retain(|key| key.kid != first_id && key.retires_at.is_some());
            stand.push(key.clone());
            let alone = Stand {
                keys: vec![key],
                unrecorded: Vec::new(),
            };
            keys.retain(|key| key.kid != first_id);
            keys.extend(Self::of(alone, first, rules)?.keys);
        }
        Ok(Self {
            keys,
            stand,
            unrecorded,
            fell_back,
        })
    }
}

/// Names a key without telling anything of it.
pub(crate) fn key_id(key: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"stack key id");
    secret::to_text(&tag.as_ref()[..9])
}

/// One part of a token.
fn part<T: DeserializeOwned>(token: &str, which: usize) -> Result<T, Problem> {
    let text = token.split('.').nth(which).ok_or_else(unauthenticated)?;
    let bytes = URL_SAFE_NO_PAD.decode(text);
    let bytes = bytes.map_err(|_| unauthenticated())?;
    serde_json::from_slice(&bytes).map_err(|_| unauthenticated())
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// When a file was written, and how long it is: two writes may fall into one tick of the clock.
type Stamp = (SystemTime, u64);

fn modified(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn lock_file(path: &Path) -> Result<File, SigningError> {
    let lock = path.with_file_name(LOCK_FILE);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(&lock)
        .map_err(|source| fault("lock", &lock, source))
}

fn read(path: &Path) -> Result<Option<Stand>, SigningError> {
    let malformed = || SigningError::Malformed(path.to_owned());
    match fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_FILE_BYTES => return Err(malformed()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let bytes = fs::read(path).map_err(|source| fault("read", path, source))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|_| malformed())
}

/// Writes the whole file under another name and then puts it in the old one's place.
fn write(path: &Path, stand: &Stand) -> Result<(), SigningError> {
    let text = serde_json::to_vec_pretty(stand).map_err(|_| SigningError::Crypto)?;
    let draft = path.with_extension("new");
    let written = (|| {
        // What a crash left behind is not ours to trust: its mode may be another.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    written.map_err(|source| fault("write", path, source))
}

fn fault(what: &'static str, path: &Path, source: io::Error) -> SigningError {
    SigningError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// The signing keys of a data folder, for the command line. It works beside a running gateway, which reads the file
/// again.
pub struct SigningKeys(Ring);

impl SigningKeys {
    /// Reads them. Nothing is changed, whatever the settings say: that is for the gateway, when it starts.
    ///
    /// # Errors
    /// The keys cannot be had.
    pub fn of_folder(
        folder: &Path,
        jwt_secret: Option<&[u8]>,
        algorithm: SigningAlgorithm,
        token_lifetime: Duration,
        now: Timestamp,
    ) -> Result<Self, crate::AuthError> {
        let source = KeySource::Directory(folder.to_owned());
        let keys = crate::keys::Keys::load(&source, jwt_secret)?;
        let rules = Rules {
            first_is_given: jwt_secret.is_some(),
            algorithm,
            token_lifetime,
        };
        Ok(Self(Ring::open(&source, &keys.access, rules, now)?))
    }

    /// Makes a new key that signs from now on, in the way the one before it did; those before it are taken until what
    /// they signed has ended, for two hours at least. A note for the audit log is left.
    ///
    /// # Errors
    /// There is no other key to go to, or the file cannot be written.
    pub fn rotate(&self, now: Timestamp) -> Result<(), SigningError> {
        self.0.rotate(now)
    }

    /// Every key, oldest first; the last one signs.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self) -> Result<Vec<SigningKeyView>, SigningError> {
        self.0.list()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn claims() -> Value {
        json!({"iss": "stack", "aud": "here", "sub": "ann", "exp": 1_700_000_600})
    }

    fn rules(algorithm: SigningAlgorithm) -> Rules {
        Rules {
            first_is_given: false,
            algorithm,
            token_lifetime: Duration::from_secs(600),
        }
    }

    fn load(folder: &Path, algorithm: SigningAlgorithm, now: Timestamp) -> Ring {
        let source = KeySource::Directory(folder.to_owned());
        Ring::load(&source, SECRET, rules(algorithm), now).unwrap()
    }

    /// A gateway that was given this secret.
    fn given(folder: &Path, secret: &[u8], algorithm: SigningAlgorithm) -> Ring {
        let source = KeySource::Directory(folder.to_owned());
        let rules = Rules {
            first_is_given: true,
            ..rules(algorithm)
        };
        Ring::load(&source, secret, rules, NOW).unwrap()
    }

    /// The command line, whose settings say this.
    fn open(folder: &Path, algorithm: SigningAlgorithm) -> Ring {
        let source = KeySource::Directory(folder.to_owned());
        Ring::open(&source, SECRET, rules(algorithm), NOW).unwrap()
    }

    fn kid(token: &str) -> String {
        jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
    }

    fn reads(ring: &Ring, token: &str, now: Timestamp) -> bool {
        ring.read::<Value>(token, "JWT", "stack", "here", now)
            .is_ok()
    }

    #[test]
    fn a_rotated_key_logs_nobody_out() {
        for algorithm in [SigningAlgorithm::Hs256, SigningAlgorithm::EdDsa] {
            let folder = tempfile::tempdir().unwrap();
            let running = load(folder.path(), algorithm, NOW);
            let old = running.sign("JWT", &claims(), NOW).unwrap();
            open(folder.path(), algorithm).rotate(NOW).unwrap();

            let later = NOW.plus(LOOK_EVERY);
            let new = running.sign("JWT", &claims(), later).unwrap();
            assert_ne!(kid(&old), kid(&new), "{algorithm:?}");
            assert!(reads(&running, &old, later) && reads(&running, &new, later));
            assert!(!reads(&running, &old, NOW.plus(OVERLAP)));
            assert!(reads(&running, &new, NOW.plus(OVERLAP)));
        }
    }

    #[test]
    fn another_algorithm_logs_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let before = load(folder.path(), SigningAlgorithm::Hs256, NOW);
        let old = before.sign("JWT", &claims(), NOW).unwrap();
        assert_eq!(before.public_keys(NOW), json!({"keys": []}));
        let after = load(folder.path(), SigningAlgorithm::EdDsa, NOW);
        let new = after.sign("JWT", &claims(), NOW).unwrap();
        assert!(reads(&after, &old, NOW) && reads(&after, &new, NOW));
        let public = after.public_keys(NOW);
        assert_eq!(public["keys"].as_array().unwrap().len(), 1);
        assert!(public["keys"][0].get("d").is_none());
    }

    #[test]
    fn another_algorithm_than_the_keys_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ring = load(folder.path(), SigningAlgorithm::EdDsa, NOW);
        let state = ring.state();
        let key = state.keys.last().unwrap();
        // The public key is known to everybody: it must not pass for a shared secret.
        let forged = jsonwebtoken::encode(
            &Header {
                kid: Some(key.kid.clone()),
                ..Header::new(Algorithm::HS256)
            },
            &claims(),
            &EncodingKey::from_secret(key.public.as_ref().unwrap()),
        );
        assert!(!reads(&ring, &forged.unwrap(), NOW));
    }

    #[test]
    fn a_given_secret_is_not_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let ring = given(folder.path(), SECRET, SigningAlgorithm::Hs256);
        assert!(matches!(ring.rotate(NOW), Err(SigningError::Fixed)));
    }

    #[test]
    fn the_command_line_does_not_change_how_tokens_are_signed() {
        use SigningAlgorithm::{EdDsa, Hs256};

        for (runs, settings) in [(EdDsa, Hs256), (Hs256, EdDsa)] {
            let folder = tempfile::tempdir().unwrap();
            let running = load(folder.path(), runs, NOW);
            open(folder.path(), runs).rotate(NOW).unwrap();
            let file = || fs::read(folder.path().join(FILE)).unwrap();
            let before = file();
            let listed = open(folder.path(), settings).list().unwrap();
            assert_eq!(file(), before);
            assert_eq!(listed.last().unwrap().alg, runs);

            open(folder.path(), settings).rotate(NOW).unwrap();
            let after = open(folder.path(), settings).list().unwrap();
            assert_eq!(after.len(), listed.len() + 1);
            let token = running
                .sign("JWT", &claims(), NOW.plus(LOOK_EVERY))
                .unwrap();
            assert_eq!(kid(&token), after.last().unwrap().kid);
            assert_eq!(after.last().unwrap().alg, runs);
        }
    }

    #[test]
    fn a_running_gateway_keeps_its_way_of_signing() {
        let folder = tempfile::tempdir().unwrap();
        let running = load(folder.path(), SigningAlgorithm::EdDsa, NOW);
        let before = running.sign("JWT", &claims(), NOW).unwrap();
        load(folder.path(), SigningAlgorithm::Hs256, NOW);
        let later = NOW.plus(LOOK_EVERY);
        assert!(matches!(
            running.look(later, true),
            Err(SigningError::NotOurs(_))
        ));
        let after = running.sign("JWT", &claims(), later).unwrap();
        assert_eq!(kid(&after), kid(&before));
    }

    #[test]
    fn a_running_gateway_keeps_to_the_secret_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let secret = [7; 32];
        let running = given(folder.path(), &secret, SigningAlgorithm::Hs256);
        open(folder.path(), SigningAlgorithm::Hs256)
            .rotate(NOW)
            .unwrap();
        let token = running
            .sign("JWT", &claims(), NOW.plus(LOOK_EVERY))
            .unwrap();
        assert_eq!(kid(&token), key_id(&secret));
    }

    #[test]
    fn a_secret_that_replaced_another_is_taken_after_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (b, c) = ([2; 32], [3; 32]);
        given(folder.path(), SECRET, SigningAlgorithm::EdDsa);
        given(folder.path(), &b, SigningAlgorithm::Hs256);
        let token = given(folder.path(), &c, SigningAlgorithm::Hs256)
            .sign("JWT", &claims(), NOW)
            .unwrap();
        let after = given(folder.path(), &c, SigningAlgorithm::EdDsa);
        assert!(reads(&after, &token, NOW));
        assert!(!reads(&after, &token, NOW.plus(OVERLAP)));
    }

    #[test]
    fn a_key_is_taken_for_as_long_as_its_tokens_live() {
        const DAY: Duration = Duration::from_secs(86_400);
        let folder = tempfile::tempdir().unwrap();
        let source = KeySource::Directory(folder.path().to_owned());
        let rules = Rules {
            token_lifetime: DAY,
            ..rules(SigningAlgorithm::Hs256)
        };
        let running = Ring::load(&source, SECRET, rules, NOW).unwrap();
        let token = running.sign("JWT", &claims(), NOW).unwrap();
        // Whether it is told of that or not.
        for rotates in [
            open(folder.path(), SigningAlgorithm::Hs256),
            Ring::open(&source, SECRET, rules, NOW).unwrap(),
        ] {
            rotates.rotate(NOW).unwrap();
            assert!(reads(&running, &token, NOW.plus(OVERLAP)));
            assert!(!reads(&running, &token, NOW.plus(DAY)));
        }
    }

    #[test]
    fn a_token_of_the_future_is_refused() {
        let ring = Ring::load(
            &KeySource::Ephemeral,
            SECRET,
            rules(SigningAlgorithm::Hs256),
            NOW,
        )
        .unwrap();
        let is_read = |claim: &str, value: Value| {
            let mut claims = claims();
            claims[claim] = value;
            reads(&ring, &ring.sign("JWT", &claims, NOW).unwrap(), NOW)
        };
        for claim in ["iat", "nbf"] {
            for good in [json!(0), json!(1_700_000_030), json!(1_700_000_029.5)] {
                assert!(is_read(claim, good));
            }
            for bad in [
                json!(1_700_000_031),
                json!(1_700_000_030.5),
                json!(u64::MAX),
                json!("soon"),
            ] {
                assert!(!is_read(claim, bad));
            }
        }
    }

    #[test]
    fn a_header_that_must_be_understood_is_refused() {
        let ring = Ring::load(
            &KeySource::Ephemeral,
            SECRET,
            rules(SigningAlgorithm::Hs256),
            NOW,
        )
        .unwrap();
        let with = |extra: Value| {
            let mut header = json!({"typ": "JWT", "alg": "HS256"});
            header
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            let body = format!(
                "{}.{}",
                secret::to_text(header.to_string().as_bytes()),
                secret::to_text(claims().to_string().as_bytes())
            );
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), body.as_bytes());
            let token = format!("{body}.{}", secret::to_text(tag.as_ref()));
            reads(&ring, &token, NOW)
        };
        assert!(with(json!({})));
        for crit in [json!(["exp"]), json!(["other"]), json!([]), json!(null)] {
            assert!(!with(json!({"crit": crit, "other": 1})));
        }
    }

    #[test]
    fn a_rotation_is_noted_until_it_is_on_record() {
        let folder = tempfile::tempdir().unwrap();
        let running = load(folder.path(), SigningAlgorithm::Hs256, NOW);
        assert!(running.unrecorded(NOW).unwrap().is_none());
        open(folder.path(), SigningAlgorithm::Hs256)
            .rotate(NOW)
            .unwrap();
        let later = NOW.plus(LOOK_EVERY);
        let told = running.unrecorded(later).unwrap().unwrap();
        // Nobody else is told of it meanwhile.
        assert!(running.unrecorded(later).unwrap().is_none());
        let signs = running.sign("JWT", &claims(), later).unwrap();
        assert_eq!(told.kids, [kid(&signs)]);
        // A crash before it was on record: the next start is told.
        drop(told);
        let next = load(folder.path(), SigningAlgorithm::Hs256, NOW);
        let told = next.unrecorded(NOW).unwrap().unwrap();
        assert_eq!(told.kids, [kid(&signs)]);
        next.recorded(&told).unwrap();
        drop(told);
        let later = later.plus(LOOK_EVERY);
        for ring in [&next, &running] {
            assert!(ring.unrecorded(later).unwrap().is_none());
            assert!(reads(ring, &signs, later));
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_the_keys() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        load(folder.path(), SigningAlgorithm::EdDsa, NOW);
        let mode = fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_at_fault_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), b"{\"keys\":7}").unwrap();
        let source = KeySource::Directory(folder.path().to_owned());
        let loaded = Ring::load(&source, SECRET, rules(SigningAlgorithm::Hs256), NOW);
        assert!(matches!(loaded, Err(SigningError::Malformed(_))));
    }
}
