//! How long the client of a remote store waits and how often it repeats a request by itself.
//!
//! What it gives up is not lost: reads and whole objects are tried again above it, under a budget. So its own patience is
//! short, and an address where nobody answers is found out in seconds. Parts of uploads depend on it alone.

use std::collections::BTreeMap;
use std::time::Duration;

use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::error::usage;
use crate::Error;

const CONNECT: Duration = Duration::from_secs(3);
const REQUEST: Duration = Duration::from_secs(30);
const TOTAL: Duration = Duration::from_secs(10);
const RETRIES_MAX: usize = 4;
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// What settings may ask for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The settings of one kind of store: names for the time to connect, for one try of a request, for a request with all its
/// tries, and for the number of tries.
pub(super) struct Names {
    pub(super) connect: &'static [&'static str],
    pub(super) request: &'static [&'static str],
    pub(super) total: &'static [&'static str],
    pub(super) tries: &'static [&'static str],
}

pub(super) const S3: Names = Names {
    connect: &["s3.connection.establish.timeout"],
    request: &["s3.connection.request.timeout", "s3.connection.timeout"],
    total: &["s3.retry.timeout"],
    tries: &["s3.attempts.maximum"],
};

pub(super) const GCS: Names = Names {
    connect: &["gs.http.connect-timeout", "fs.gs.http.connect-timeout"],
    request: &["gs.http.read-timeout", "fs.gs.http.read-timeout"],
    total: &["gs.retry.total-timeout"],
    tries: &["gs.retry.max-attempt", "fs.gs.http.max.retry"],
};

pub(super) const AZURE: Names = Names {
    connect: &["fs.azure.http.connection.timeout"],
    request: &["fs.azure.http.read.timeout"],
    total: &["fs.azure.retry.timeout"],
    tries: &["fs.azure.io.retry.max.retries"],
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Patience {
    connect: Duration,
    request: Duration,
    total: Duration,
    retries_max: usize,
}

impl Patience {
    pub(super) fn find(names: &Names, settings: &BTreeMap<String, String>) -> Result<Self, Error> {
        let find = |names: &[&'static str]| {
            let mut names = names.iter();
            names.find_map(|name| Some((*name, settings.get(*name)?.as_str())))
        };
        let time = |names, default| match find(names) {
            Some((name, text)) => duration(name, text),
            None => Ok(default),
        };
        let retries_max = match find(names.tries) {
            None => RETRIES_MAX,
            Some((name, text)) => match text.trim().parse::<usize>() {
                Ok(tries @ 1..=100) => tries - 1,
                _ => {
                    return Err(usage(format!(
                        "{name} must be a number from 1 to 100, found `{text}`"
                    )));
                }
            },
        };
        Ok(Self {
            connect: time(names.connect, CONNECT)?,
            request: time(names.request, REQUEST)?,
            total: time(names.total, TOTAL)?,
            retries_max,
        })
    }

    pub(super) fn client(&self) -> ClientOptions {
        ClientOptions::new()
            .with_connect_timeout(self.connect)
            .with_timeout(self.request)
    }

    pub(super) fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                max_backoff: PAUSE_MAX,
                ..BackoffConfig::default()
            },
            max_retries: self.retries_max,
            retry_timeout: self.total,
        }
    }
}

/// A number of milliseconds, or a number with a unit.
fn duration(name: &str, text: &str) -> Result<Duration, Error> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let ms = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "ms" => Some(1),
        "s" | "sec" | "second" | "seconds" => Some(1_000),
        "m" | "min" | "minute" | "minutes" => Some(60_000),
        "h" | "hour" | "hours" => Some(3_600_000),
        _ => None,
    };
    let ms = ms.and_then(|ms: u64| number.parse::<u64>().ok()?.checked_mul(ms));
    let found = ms.map(Duration::from_millis);
    found
        .filter(|found| (Duration::from_millis(1)..=LONGEST).contains(found))
        .ok_or_else(|| {
            usage(format!(
                "{name} must be a time from 1 ms to one day, such as `500 ms` or `10 s`, found `{text}`"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_understood_and_wrong_ones_are_told() {
        let map = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let plain = Patience::find(&S3, &map(&[])).unwrap();
        assert_eq!((plain.connect, plain.retries_max), (CONNECT, 4));
        let given = map(&[
            ("s3.connection.establish.timeout", "1500"),
            ("s3.connection.timeout", "2 min"),
            ("s3.retry.timeout", "7s"),
            ("s3.attempts.maximum", "1"),
        ]);
        let expected = Patience {
            connect: Duration::from_millis(1500),
            request: Duration::from_secs(120),
            total: Duration::from_secs(7),
            retries_max: 0,
        };
        assert_eq!(Patience::find(&S3, &given).unwrap(), expected);
        for (name, value) in [
            ("s3.retry.timeout", "soon"),
            ("s3.retry.timeout", "0"),
            ("s3.retry.timeout", "99999999999999999999 h"),
            ("s3.retry.timeout", "2 days"),
            ("s3.attempts.maximum", "0"),
            ("s3.attempts.maximum", "-1"),
        ] {
            let error = Patience::find(&S3, &map(&[(name, value)])).unwrap_err();
            assert!(error.message.starts_with(name), "{error}");
        }
    }
}
