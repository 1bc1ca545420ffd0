//! What a service manager is told: that the gateway serves, that it reads its files again, that it goes down, and every
//! now and then that it is alive. Without one (`NOTIFY_SOCKET` is not set) nothing is told to anybody.

use std::env;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The way to the service manager.
#[derive(Debug)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// The way that the environment names.
    ///
    /// # Errors
    /// It names one that there is not.
    pub fn of_process() -> io::Result<Self> {
        let socket = match env::var("NOTIFY_SOCKET") {
            Ok(address) if !address.is_empty() => Some((UnixDatagram::unbound()?, at(&address)?)),
            _ => None,
        };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // It may be meant for who started us.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0);
        Ok(Self {
            socket,
            watchdog: watchdog.map(Duration::from_micros),
        })
    }

    /// The gateway serves.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The gateway has read its files again. What came of it is in the log.
    pub fn reloaded(&self, is_sound: bool) {
        let status = match is_sound {
            true => "",
            false => "the configuration has faults, see the log; nothing of it was applied",
        };
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The gateway reads its files again; [`Notify::reloaded`] says when it has.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The gateway goes down.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the gateway is alive, twice as often as is asked for, for as long as it `works`. It is to be spawned, so
    /// that it falls silent too when the threads that serve hang.
    pub async fn watchdog(self: Arc<Self>, works: impl Fn() -> bool) {
        let Some(limit) = self.watchdog else {
            return;
        };
        let mut beats = tokio::time::interval(limit / 2);
        loop {
            beats.tick().await;
            if !works() {
                tracing::error!(
                    "a part of the gateway has failed for good; the watchdog is left to end it"
                );
                return;
            }
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::warn!(%error, "the service manager cannot be told {state}: {error}");
        }
    }
}

/// A path, or behind an `@` a name of Linux's own.
fn at(address: &str) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = address.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(address)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_nothing_more_of_a_gateway_that_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let hears = || {
            let mut said = [0; 64];
            let read = manager.recv(&mut said).ok()?;
            Some(said[..read].to_vec())
        };
        let to = SocketAddr::from_pathname(&path).unwrap();
        let notify = Notify {
            socket: Some((UnixDatagram::unbound().unwrap(), to)),
            watchdog: Some(Duration::from_secs(30)),
        };
        let works = Arc::new(AtomicBool::new(true));
        let seen = works.clone();
        let looks = move || seen.load(Ordering::Relaxed);
        let mut beating = tokio::task::JoinSet::new();
        beating.spawn(Arc::new(notify).watchdog(looks));
        tokio::time::sleep(Duration::from_secs(40)).await;
        for _ in 0..3 {
            assert_eq!(hears().as_deref(), Some(&b"WATCHDOG=1"[..]));
        }
        assert_eq!(hears(), None);
        works.store(false, Ordering::Relaxed);
        beating.join_next().await.unwrap().unwrap();
        assert_eq!(hears(), None);
    }
}
