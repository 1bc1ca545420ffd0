//! The settings of the bus: its addresses, and the keys without which ZeroMQ does not leave the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use stack_bus::{BusConfig, BusUrl, Curve, CurveKey, CurveKeys, DEFAULT_QUEUE, Role};

use super::layers::Reader;
use super::value::{ListOf, Setting};

/// Messages that a subscription queues where they come over a wire, one event each: as much as its sockets keep.
const WIRE_QUEUE: usize = 8192;

const SECRET_KEY: &str = "bus.curve_secret_key_file";
const SERVER_KEY: &str = "bus.curve_server_key";
const AUTHORIZED: &str = "bus.curve_authorized_keys_file";

impl Setting for BusUrl {
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_str(text).map_err(|error| error.to_string())
    }
}

impl Setting for CurveKey {
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_str(text).map_err(|error| error.to_string())
    }
}

pub(super) fn read(reader: &mut Reader) -> BusConfig {
    let mut config = BusConfig {
        url: reader.get("bus.url"),
        publish: reader.get::<ListOf<BusUrl>>("bus.publish").0,
        subscribe: reader.get::<ListOf<BusUrl>>("bus.subscribe").0,
        curve: read_curve(reader),
        queue: DEFAULT_QUEUE,
    };
    if config.has_wire() {
        config.queue = WIRE_QUEUE;
    }
    let dialled = |path, urls: &[BusUrl]| -> Vec<_> {
        urls.iter()
            .map(|url| (path, url.clone(), Role::Dial))
            .collect()
    };
    let mut all = vec![("bus.url", config.url.clone(), Role::Bind)];
    all.extend(dialled("bus.publish", &config.publish));
    all.extend(dialled("bus.subscribe", &config.subscribe));
    for (path, url, role) in all {
        if role == Role::Dial && url == BusUrl::Mem {
            reader.fault(
                path,
                "mem: stays in this process, there is nobody to dial".into(),
            );
        }
        if path == "bus.subscribe" && url == config.url && url != BusUrl::Mem {
            reader.fault(
                path,
                format!("{url} is bus.url: what is said here is heard here anyway"),
            );
        }
        if let Some(doubt) = url.doubt(role, config.curve.as_ref()) {
            reader.fault(path, format!("{url}: {doubt}"));
        }
    }
    config
}

fn read_curve(reader: &mut Reader) -> Option<Curve> {
    let server = reader.get_set::<CurveKey>(SERVER_KEY);
    let authorized = reader.get_set::<PathBuf>(AUTHORIZED);
    let Some(file) = reader.get_set::<PathBuf>(SECRET_KEY) else {
        for (path, is_set) in [
            (SERVER_KEY, server.is_some()),
            (AUTHORIZED, authorized.is_some()),
        ] {
            if is_set {
                reader.fault(path, format!("{SECRET_KEY} is not set"));
            }
        }
        return None;
    };
    let keys = secret_of(&file).map_err(|reason| reader.fault(SECRET_KEY, reason));
    let authorized = authorized.map_or(Ok(Vec::new()), |file| {
        keys_of(&file).map_err(|reason| reader.fault(AUTHORIZED, reason))
    });
    Some(Curve {
        keys: keys.ok()?,
        server,
        authorized: authorized.ok()?,
    })
}

fn text_of(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn secret_of(file: &Path) -> Result<CurveKeys, String> {
    let text = text_of(file)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(file).map_or(0, |there| there.permissions().mode());
        if mode & 0o077 != 0 {
            return Err(format!(
                "{}: others may read it; chmod 600 it",
                file.display()
            ));
        }
    }
    text.parse()
        .map_err(|error| format!("{}: {error}", file.display()))
}

fn keys_of(file: &Path) -> Result<Vec<CurveKey>, String> {
    let keys = CurveKey::list(&text_of(file)?)
        .map_err(|line| format!("{}: line {line} is no key of 40 characters", file.display()))?;
    if keys.is_empty() {
        return Err(format!("{}: there is no key in it", file.display()));
    }
    Ok(keys)
}
