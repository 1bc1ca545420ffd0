//! What is done to the file while no gateway runs on it: only one process may have it open.

use std::path::Path;
use std::sync::Arc;

use stack_auth::{
    Auth, AuthConfig, SetupFileError, SetupToken, SigningError, SigningKeyView, SigningKeys,
};
use stack_ipc::service::{Account, Admin as _, Answer};
use stack_proto::JsonCodec;
use stack_storage::{OpenError, StoreError, StoreHandle};
use stack_types::{Clock, Problem, SystemClock};

use crate::config::Config;
use crate::error::StartError;
use crate::gateway::{self, DATABASE_FILE, auth_config, open_store, signing};
use crate::http::origin::Origins;
use crate::ipc::admin::AdminService;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// A gateway has the file open.
    #[error("a gateway is running on {0}; stop it first")]
    Running(String),
    /// There is no file yet, and making one would only hide a mistyped folder.
    #[error("there is no database in {0}; has the gateway been started with this data folder?")]
    NoDatabase(String),
    /// The file or the keys cannot be opened.
    #[error("cannot open the database")]
    Open(#[source] StartError),
    /// There is an administrator, or there was one.
    #[error("the server is set up already; `users promote` makes somebody an administrator")]
    SetUp,
    /// The setup file cannot be read or written.
    #[error(transparent)]
    SetupFile(#[from] SetupFileError),
    /// The file cannot be read.
    #[error("cannot read the database")]
    Read(#[from] StoreError),
    /// The signing keys cannot be read, written or changed.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Problem),
}

/// Where the first administrator is made, with a new token when the last has ended. A gateway that runs on the folder
/// takes it at once: it looks at the token's file with every claim. It removes that file when the setup is claimed,
/// which is how this is known beside it.
///
/// # Errors
/// See [`OfflineError`].
pub async fn setup_url(config: &Config) -> Result<String, OfflineError> {
    let folder = config.data_dir.display().to_string();
    if !config.data_dir.join(DATABASE_FILE).exists() {
        return Err(OfflineError::NoDatabase(folder));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    let is_open = match open_store(config, Arc::new(JsonCodec), clock, None) {
        Ok((store, handle, _commits)) => {
            let is_open = store.setup_is_open().await;
            handle.shutdown().await;
            is_open?
        }
        Err(StartError::Store(OpenError::InUse { .. })) => {
            SetupToken::is_in_folder(&config.data_dir)
        }
        Err(error) => return Err(OfflineError::Open(error)),
    };
    if !is_open {
        return Err(OfflineError::SetUp);
    }
    let token = SetupToken::of_folder(&config.data_dir, now)?;
    Ok(gateway::setup_url(
        &Origins::new(config, config.first_addr()),
        &token,
    ))
}

/// How a copy that a command has asked for begins and ends, while it has a name.
const COPY: (&str, &str) = (".copy-", ".redb");

/// The name of a new one, below the data folder.
pub(crate) fn copy_name() -> Result<String, std::io::Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let random = u64::from_le_bytes(random);
    Ok(format!("{}{random:016x}{}", COPY.0, COPY.1))
}

/// Whether a file is one that a command takes away.
pub(crate) fn is_copy(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let random = name.and_then(|name| name.strip_prefix(COPY.0)?.strip_suffix(COPY.1));
    random.is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Removes what is left of commands that ended midway. No command can have a copy made while no gateway runs and this
/// one has the file.
pub(crate) fn remove_copies(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for name in entries.flatten().map(|entry| entry.file_name()) {
        let is_copy = name.to_str().is_some_and(|name| {
            let name = name.strip_suffix(".part").unwrap_or(name);
            name.starts_with(COPY.0) && name.ends_with(COPY.1)
        });
        if is_copy && let Err(error) = std::fs::remove_file(folder.join(&name)) {
            tracing::warn!(%error, "a copy of the file that nobody needs cannot be removed: {error}");
        }
    }
}

/// Opens the file for the operator.
///
/// # Errors
/// See [`OfflineError`].
pub(crate) fn open(config: &Config) -> Result<(AdminService, StoreHandle), OfflineError> {
    let folder = config.data_dir.display().to_string();
    if !config.data_dir.join(DATABASE_FILE).exists() {
        return Err(OfflineError::NoDatabase(folder));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = open_store(config, Arc::new(JsonCodec), clock.clone(), None);
    let (store, handle, _commits) = opened.map_err(|error| match error {
        StartError::Store(OpenError::InUse { .. }) => OfflineError::Running(folder),
        error => OfflineError::Open(error),
    })?;
    let auth = AuthConfig {
        // To go to another key is for the gateway, when it starts.
        keeps_signing_key: true,
        ..auth_config(config)
    };
    // No socket hangs on this process, so that nobody need be told of revocations.
    let auth = Auth::new(auth, store.clone(), clock, Arc::new(|_| {}));
    let auth = auth.map_err(|error| OfflineError::Open(error.into()))?;
    let origins = Origins::new(config, config.first_addr());
    Ok((AdminService::of_file(auth, store, origins), handle))
}

/// Opens the file, does this, and closes it again.
async fn on_file<T>(
    config: &Config,
    work: impl FnOnce(&AdminService) -> Answer<T>,
) -> Result<T, OfflineError> {
    let (admin, store) = open(config)?;
    let done = work(&admin).await;
    drop(admin);
    store.shutdown().await;
    Ok(done?)
}

/// Makes somebody an administrator.
///
/// # Errors
/// See [`OfflineError`]; nothing has changed then.
pub async fn promote(config: &Config, name: &str) -> Result<Account, OfflineError> {
    on_file(config, |admin| admin.promote(name.to_owned())).await
}

/// A link with which somebody sets a new password, once a gateway runs on the folder again. It is good for half an hour.
///
/// # Errors
/// See [`OfflineError`].
pub async fn recovery_url(
    config: &Config,
    name: &str,
    reset_second_factor: bool,
) -> Result<String, OfflineError> {
    on_file(config, |admin| {
        admin.recovery_url(name.to_owned(), reset_second_factor)
    })
    .await
}

/// Disables an account and ends its sessions, or enables it again.
///
/// # Errors
/// See [`OfflineError`]; nothing has changed then.
pub async fn set_disabled(config: &Config, name: &str, disabled: bool) -> Result<(), OfflineError> {
    on_file(config, |admin| {
        admin.set_disabled(name.to_owned(), disabled)
    })
    .await
}

/// The keys that sign tokens, oldest first. A gateway may run on the folder.
///
/// # Errors
/// See [`OfflineError`].
pub fn signing_keys(config: &Config) -> Result<Vec<SigningKeyView>, OfflineError> {
    Ok(open_keys(config)?.list()?)
}

/// Makes a new key that signs tokens from now on, and gives them all. A gateway that runs on the folder takes it
/// within seconds.
///
/// # Errors
/// See [`OfflineError`].
pub fn rotate_keys(config: &Config) -> Result<Vec<SigningKeyView>, OfflineError> {
    let keys = open_keys(config)?;
    keys.rotate(SystemClock.now())?;
    Ok(keys.list()?)
}

fn open_keys(config: &Config) -> Result<SigningKeys, OfflineError> {
    let folder = &config.data_dir;
    if !folder.join(DATABASE_FILE).exists() {
        return Err(OfflineError::NoDatabase(folder.display().to_string()));
    }
    let secret = config.auth.jwt_secret.as_ref();
    let secret = secret.map(|secret| secret.expose().as_bytes());
    let lifetime = config.auth.access_token_ttl;
    SigningKeys::of_folder(folder, secret, signing(config), lifetime, SystemClock.now())
        .map_err(|error| OfflineError::Open(error.into()))
}
