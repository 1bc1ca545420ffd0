//! The keys that sign tokens: one that signs, and those before it, which are taken until what they signed has ended.
//!
//! The first key is the secret that comes from the master key, or `AUTH_JWT_SECRET`. Every other one stands in a file
//! of the data folder, which the command line writes and a running gateway reads again, so that a rotation needs no
//! restart and logs nobody out. What algorithm a token is checked by is said by its key, never by the token.

use std::fs;
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
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stack_types::{Problem, Timestamp};

use crate::access::unauthenticated;
use crate::keys::KeySource;
use crate::secret;

/// The keys' file in the data folder.
const FILE: &str = "signing-keys.json";
/// Nothing we write comes near it.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// How long a key is taken after another has taken its place: longer than any token it signed.
const OVERLAP: Duration = Duration::from_secs(2 * 60 * 60);
/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
}

/// The keys that are in use.
pub(crate) struct Ring {
    first: Vec<u8>,
    path: Option<PathBuf>,
    state: RwLock<Arc<State>>,
    looked_at: AtomicU64,
    modified: RwLock<Option<SystemTime>>,
}

impl Ring {
    /// Reads the keys; a change of the algorithm is a rotation.
    pub(crate) fn load(
        source: &KeySource,
        first: &[u8],
        first_is_given: bool,
        algorithm: SigningAlgorithm,
        now: Timestamp,
    ) -> Result<Self, SigningError> {
        // The library panics when another dependency turns a second provider on and none was chosen. That one is
        // chosen already is no error.
        let _ = aws_lc::DEFAULT_PROVIDER.install_default();
        let path = match source {
            KeySource::Directory(folder) => Some(folder.join(FILE)),
            KeySource::Ephemeral => None,
        };
        let ring = Self {
            first: first.to_vec(),
            state: RwLock::new(Arc::new(State::of(vec![Stored::first(first)], first)?)),
            path,
            looked_at: AtomicU64::new(0),
            modified: RwLock::new(None),
        };
        ring.look(now)?;
        let state = ring.state();
        let signs_with_given = state
            .keys
            .last()
            .is_some_and(|key| key.kid == key_id(first));
        let must_change = match (first_is_given, algorithm) {
            // A secret that was given is what signs, as soon as it is given.
            (true, SigningAlgorithm::Hs256) => !signs_with_given,
            _ => state.keys.last().is_none_or(|key| key.alg != algorithm),
        };
        if must_change {
            let next = match (first_is_given, algorithm) {
                (true, SigningAlgorithm::Hs256) => Stored::first(first),
                _ => Stored::generate(algorithm, now)?,
            };
            ring.put_in_front(next, now)?;
        }
        Ok(ring)
    }

    /// Makes a new key that signs from now on.
    pub(crate) fn rotate(
        &self,
        first_is_given: bool,
        algorithm: SigningAlgorithm,
        now: Timestamp,
    ) -> Result<(), SigningError> {
        if first_is_given && algorithm == SigningAlgorithm::Hs256 {
            return Err(SigningError::Fixed);
        }
        self.put_in_front(Stored::generate(algorithm, now)?, now)
    }

    fn put_in_front(&self, next: Stored, now: Timestamp) -> Result<(), SigningError> {
        let mut stand = self.state().stand.clone();
        stand.retain(|key| {
            key.kid != next.kid && key.retires_at.is_none_or(|retires_at| now < retires_at)
        });
        for key in &mut stand {
            key.retires_at.get_or_insert(now.plus(OVERLAP));
        }
        stand.push(next);
        let state = State::of(stand.clone(), &self.first)?;
        if let Some(path) = &self.path {
            write(path, &Stand { keys: stand })?;
            *self.modified.write() = modified(path);
        }
        *self.state.write() = Arc::new(state);
        Ok(())
    }

    /// Reads the file again when it has changed.
    fn look(&self, now: Timestamp) -> Result<(), SigningError> {
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
        let state = State::of(stand.keys, &self.first)?;
        if let Some(key) = state.keys.last() {
            tracing::info!(kid = key.kid, "tokens are signed with the key {}", key.kid);
        }
        *self.state.write() = Arc::new(state);
        *self.modified.write() = changed;
        Ok(())
    }

    fn state(&self) -> Arc<State> {
        self.state.read().clone()
    }

    /// The keys as of now. A file that is at fault changes nothing: whoever wrote it was told so.
    fn fresh(&self, now: Timestamp) -> Arc<State> {
        let looked_at = Timestamp(self.looked_at.load(Ordering::Relaxed));
        if now.since(looked_at) >= LOOK_EVERY
            && let Err(error) = self.look(now)
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
        let header = jsonwebtoken::decode_header(token).map_err(|_| unauthenticated())?;
        if header
            .typ
            .is_some_and(|said| !said.eq_ignore_ascii_case(typ))
        {
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
        jsonwebtoken::decode::<C>(token, &key.decoding, &validation)
            .map(|data| data.claims)
            .map_err(|_| unauthenticated())
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

    /// Every key, without its secret.
    pub(crate) fn list(&self) -> Vec<SigningKeyView> {
        let view = |key: &Stored| SigningKeyView {
            kid: key.kid.clone(),
            alg: key.alg,
            created_at: key.created_at,
            retires_at: key.retires_at,
        };
        self.state().stand.iter().map(view).collect()
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
    fn of(stand: Vec<Stored>, first: &[u8]) -> Result<Self, SigningError> {
        let first_id = key_id(first);
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
        if keys.last().is_none_or(|key| key.retires_at.is_some()) {
            let fresh = Self::of(vec![Stored::first(first)], first)?;
            keys.retain(|key| key.kid != first_id);
            keys.extend(fresh.keys);
        }
        Ok(Self { keys, stand })
    }
}

/// Names a key without telling anything of it.
pub(crate) fn key_id(key: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"stack key id");
    secret::to_text(&tag.as_ref()[..9])
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
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
pub struct SigningKeys {
    ring: Ring,
    given: bool,
    algorithm: SigningAlgorithm,
}

impl SigningKeys {
    /// Reads them.
    ///
    /// # Errors
    /// The keys cannot be had.
    pub fn of_folder(
        folder: &Path,
        jwt_secret: Option<&[u8]>,
        algorithm: SigningAlgorithm,
        now: Timestamp,
    ) -> Result<Self, crate::AuthError> {
        let source = KeySource::Directory(folder.to_owned());
        let keys = crate::keys::Keys::load(&source, jwt_secret)?;
        let given = jwt_secret.is_some();
        Ok(Self {
            ring: Ring::load(&source, &keys.access, given, algorithm, now)?,
            given,
            algorithm,
        })
    }

    /// Makes a new key that signs from now on; those before it are taken for two hours more.
    ///
    /// # Errors
    /// There is no other key to go to, or the file cannot be written.
    pub fn rotate(&self, now: Timestamp) -> Result<(), SigningError> {
        self.ring.rotate(self.given, self.algorithm, now)
    }

    /// Every key, oldest first; the last one signs.
    #[must_use]
    pub fn list(&self) -> Vec<SigningKeyView> {
        self.ring.list()
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

    fn load(folder: &Path, algorithm: SigningAlgorithm, now: Timestamp) -> Ring {
        let source = KeySource::Directory(folder.to_owned());
        Ring::load(&source, SECRET, false, algorithm, now).unwrap()
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
            load(folder.path(), algorithm, NOW)
                .rotate(false, algorithm, NOW)
                .unwrap();

            let later = NOW.plus(LOOK_EVERY);
            let new = running.sign("JWT", &claims(), later).unwrap();
            let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid;
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
        let ring = Ring::load(
            &KeySource::Ephemeral,
            SECRET,
            true,
            SigningAlgorithm::Hs256,
            NOW,
        )
        .unwrap();
        assert!(matches!(
            ring.rotate(true, SigningAlgorithm::Hs256, NOW),
            Err(SigningError::Fixed)
        ));
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
        let loaded = Ring::load(&source, SECRET, false, SigningAlgorithm::Hs256, NOW);
        assert!(matches!(loaded, Err(SigningError::Malformed(_))));
    }
}
