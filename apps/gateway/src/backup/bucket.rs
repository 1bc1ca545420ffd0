//! Backups in a bucket of a server that speaks S3. One is there only when all of it has arrived: it goes in one request,
//! or in parts that are joined at the end and taken back when something fails. The server checks the sum of each.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::buffered::BufReader;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, MultipartUpload, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;
use tokio_util::sync::CancellationToken;

use super::{BackupError, Name, Parcel};
use crate::config::BackupSettings;

/// Servers want 5 MiB at least, and all parts but the last alike. Three of them are in memory.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Servers take 10,000.
const MOST_PARTS: u64 = 9000;
/// A server that is there answers a connection in this time …
const CONNECT: Duration = Duration::from_secs(10);
/// … and a part, which a slow line has to carry, in this.
const REQUEST: Duration = Duration::from_secs(120);
/// A server that refuses for a moment is asked again …
const RETRIES: usize = 4;
/// … for this long in all.
const RETRY_FOR: Duration = Duration::from_secs(60);
/// How long taking parts back may hold up the end of the gateway.
pub(super) const ABORT: Duration = Duration::from_secs(5);

/// A bucket, and what stands in front of the names in it.
#[derive(Clone)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    name: String,
    prefix: String,
}

impl Bucket {
    /// The way to it. Nobody is asked yet.
    pub(crate) fn open(
        bucket: &str,
        prefix: &str,
        settings: &BackupSettings,
    ) -> Result<Self, BackupError> {
        let Some(way) = &settings.bucket else {
            return Err(BackupError::Settings(
                "a bucket needs backup.s3_access_key_id and backup.s3_secret_access_key",
            ));
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&way.region)
            .with_access_key_id(&way.access_key_id)
            .with_secret_access_key(way.secret_access_key.expose())
            .with_checksum_algorithm(Checksum::SHA256)
            .with_client_options(
                ClientOptions::new()
                    .with_connect_timeout(CONNECT)
                    .with_timeout(REQUEST),
            )
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: RETRY_FOR,
            });
        if let Some(endpoint) = &way.endpoint {
            builder = builder
                .with_endpoint(endpoint.as_str().trim_end_matches('/'))
                .with_allow_http(endpoint.scheme() == "http");
        }
        let failed = of_bucket(bucket);
        let store = builder.build().map_err(failed)?;
        Ok(Self {
            store: Arc::new(store),
            name: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    fn path(&self, name: &str) -> Path {
        match self.prefix.is_empty() {
            true => Path::from(name),
            false => Path::from(format!("{}/{name}", self.prefix)),
        }
    }

    fn failed(&self) -> impl Fn(object_store::Error) -> BackupError + use<> {
        of_bucket(&self.name)
    }

    /// The backups in it, with their sizes, in no order.
    pub(super) async fn names(&self) -> Result<Vec<(Name, u64)>, BackupError> {
        let prefix = (!self.prefix.is_empty()).then(|| Path::from(self.prefix.as_str()));
        let listed = self.store.list_with_delimiter(prefix.as_ref()).await;
        let listed = listed.map_err(self.failed())?;
        let objects = listed.objects.into_iter();
        Ok(objects
            .filter_map(|object| Some((object.location.filename()?.parse().ok()?, object.size)))
            .collect())
    }

    /// Removes one.
    pub(super) async fn remove(&self, name: &str) -> Result<(), BackupError> {
        let removed = self.store.delete(&self.path(name)).await;
        removed.map_err(self.failed())
    }

    /// Whether there is something under a name.
    pub(crate) async fn has(&self, name: &str) -> Result<bool, BackupError> {
        match self.store.head(&self.path(name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed()(error)),
        }
    }

    /// What is under a name, and how large it is. It is read off the runtime, a piece with each request, so that whoever
    /// reads slowly outlasts none.
    pub(super) async fn open_object(
        &self,
        name: &str,
    ) -> Result<(Box<dyn Read + Send>, u64), BackupError> {
        let found = self.store.head(&self.path(name)).await;
        let found = found.map_err(self.failed())?;
        let piece = usize::try_from(PART_BYTES).unwrap_or(usize::MAX);
        let reader = BufReader::with_capacity(self.store.clone(), &found, piece);
        Ok((Box::new(SyncIoBridge::new(reader)), found.size))
    }

    /// Puts what a parcel holds under a name, and says how large it is.
    pub(crate) async fn put(&self, name: &str, parcel: Parcel) -> Result<u64, BackupError> {
        let size = parcel.copy.metadata();
        let size = size.map_err(BackupError::io("the copy cannot be read"))?;
        let part = PART_BYTES.max(size.len() / MOST_PARTS);
        let stopping = parcel.stopping.clone();
        let (parts, mut filled) = mpsc::channel(1);
        // Whoever does not take the parts any more ends it.
        let filling = tokio::task::spawn_blocking(move || {
            let mut out = Parts {
                part: usize::try_from(part).unwrap_or(usize::MAX),
                begun: BytesMut::new(),
                bytes: 0,
                parts,
            };
            parcel.write(&mut out)?;
            out.finish()
        });
        let path = self.path(name);
        let sent = self.send(&path, &mut filled, filling, &stopping).await?;
        let arrived = self.store.head(&path).await.map_err(self.failed())?;
        match arrived.size == sent {
            true => Ok(sent),
            false => Err(BackupError::Changed(name.to_owned())),
        }
    }

    async fn send(
        &self,
        path: &Path,
        filled: &mut mpsc::Receiver<Bytes>,
        filling: tokio::task::JoinHandle<io::Result<u64>>,
        stopping: &CancellationToken,
    ) -> Result<u64, BackupError> {
        let first = filled.recv().await.unwrap_or_default();
        let Some(second) = filled.recv().await else {
            let bytes = finished(filling).await?;
            let put = self.store.put(path, first.into()).await;
            put.map_err(self.failed())?;
            return Ok(bytes);
        };
        let upload = self.store.put_multipart(path).await;
        let mut upload = upload.map_err(self.failed())?;
        let sent = async {
            let mut next = Some(first);
            let mut after = Some(second);
            while let Some(part) = next {
                let put = upload.put_part(part.into());
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return Err(BackupError::Stopped),
                    put = put => put.map_err(self.failed())?,
                }
                next = match after.take() {
                    Some(part) => Some(part),
                    None => filled.recv().await,
                };
            }
            let bytes = finished(filling).await?;
            upload.complete().await.map_err(self.failed())?;
            Ok(bytes)
        };
        let sent = sent.await;
        if sent.is_err() {
            self.take_back(&mut *upload, path).await;
        }
        sent
    }

    /// Parts that were not joined cost room until somebody takes them back.
    async fn take_back(&self, upload: &mut dyn MultipartUpload, path: &Path) {
        let aborted = tokio::time::timeout(ABORT, upload.abort()).await;
        let error = match aborted {
            Ok(Ok(())) => return,
            Ok(Err(error)) => told(&error),
            Err(_) => "the server does not answer".to_owned(),
        };
        tracing::warn!(
            error,
            "parts of {path} may be left in the bucket {}: {error}",
            self.name
        );
    }
}

async fn finished(filling: tokio::task::JoinHandle<io::Result<u64>>) -> Result<u64, BackupError> {
    let filled = filling
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    filled.map_err(BackupError::io("the copy cannot be read"))
}

fn of_bucket(name: &str) -> impl Fn(object_store::Error) -> BackupError + use<> {
    let bucket = name.to_owned();
    move |error| BackupError::Bucket {
        bucket: bucket.clone(),
        reason: told(&error),
    }
}

/// What went wrong, and why. Most of the library's errors tell the causes below them, all but the last.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = error;
    while let Some(below) = last.source() {
        last = below;
    }
    let last = last.to_string();
    if !text.contains(&last) {
        text.push_str(": ");
        text.push_str(&last);
    }
    text
}

/// Cuts what is written into parts, and waits with each until the one before it is on its way.
struct Parts {
    part: usize,
    begun: BytesMut,
    bytes: u64,
    parts: mpsc::Sender<Bytes>,
}

impl Parts {
    fn hand_on(&mut self) -> io::Result<()> {
        let part = self.begun.split().freeze();
        let sent = self.parts.blocking_send(part);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the backup"))
    }

    fn finish(mut self) -> io::Result<u64> {
        if !self.begun.is_empty() {
            self.hand_on()?;
        }
        Ok(self.bytes)
    }
}

impl Write for Parts {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(self.part - self.begun.len());
        self.begun.extend_from_slice(&data[..taken]);
        self.bytes += taken as u64;
        if self.begun.len() == self.part {
            self.hand_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
