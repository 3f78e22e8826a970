//! S3 and its look-alikes. Settings given by name come before the environment.
//!
//! An own endpoint (MinIO, Ceph, a test server) is addressed as `endpoint/bucket`, Amazon as `bucket.host`, unless
//! `s3.path.style.access` says otherwise. Plain HTTP is spoken only to an endpoint whose URL says so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::{CredentialProvider, ObjectStore};
use url::Url;

use super::error::usage;
use super::patience::{Patience, S3};
use crate::Error;

/// Each setting under the names that it has.
const ENDPOINT: [&str; 1] = ["s3.endpoint"];
/// Ways to credentials other than keys.
const ROLE_VARIABLES: [&str; 4] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];
const ACCESS_KEY: [&str; 2] = ["s3.access-key", "s3.access.key"];
const SECRET_KEY: [&str; 2] = ["s3.secret-key", "s3.secret.key"];
const SESSION_TOKEN: [&str; 2] = ["s3.session-token", "s3.session.token"];
const REGION: [&str; 2] = ["s3.region", "s3.endpoint.region"];
const PATH_STYLE: [&str; 2] = ["s3.path.style.access", "s3.path-style-access"];
/// All of them.
pub(super) const PLAIN: [&[&str]; 3] = [&ENDPOINT, &REGION, &PATH_STYLE];
pub(super) const SECRETS: [&[&str]; 3] = [&ACCESS_KEY, &SECRET_KEY, &SESSION_TOKEN];
const ENDPOINT_VARIABLES: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

const KEY_VARIABLES: [&str; 3] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

pub(super) fn open(
    bucket: &str,
    settings: &BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
) -> Result<Arc<dyn ObjectStore>, Error> {
    super::tls::install_provider();
    let builder = builder(bucket, settings, environment)?;
    // The builder has not seen the keys, so its errors cannot repeat them.
    let objects = builder.build().map_err(|e| {
        usage(format!(
            "the S3 client for bucket `{bucket}` cannot be made: {e}"
        ))
    })?;
    Ok(Arc::new(objects))
}

fn builder(
    bucket: &str,
    settings: &BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
) -> Result<AmazonS3Builder, Error> {
    let setting = |names: &[&str]| names.iter().find_map(|name| settings.get(*name)).cloned();
    let variable = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| environment.get(*name))
            .filter(|value| !value.is_empty())
            .cloned()
    };
    let patience = Patience::find(&S3, settings)?;
    let mut builder = AmazonS3Builder::new()
        .with_retry(patience.retry())
        .with_client_options(patience.client());
    for (name, value) in environment {
        let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
        let ours = ENDPOINT_VARIABLES
            .iter()
            .chain(&KEY_VARIABLES)
            .any(|known| known == name);
        if let (true, false, Ok(key)) = (name.starts_with("AWS_"), ours, key) {
            builder = builder.with_config(key, value);
        }
    }
    builder = builder.with_bucket_name(bucket);
    let credential = StaticCredential::find(settings, environment)?;
    let has_credentials = credential.is_some()
        || ROLE_VARIABLES
            .iter()
            .any(|name| variable(&[*name]).is_some());
    if let Some(credential) = credential {
        builder = builder.with_credentials(Arc::new(credential));
    }
    if let Some(region) = setting(&REGION) {
        builder = builder.with_region(region);
    }
    let endpoint = setting(&ENDPOINT).or_else(|| variable(&ENDPOINT_VARIABLES));
    let path_style = match setting(&PATH_STYLE) {
        Some(text) => boolean(PATH_STYLE[0], &text)?,
        None => match variable(&["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"]) {
            Some(text) => !boolean("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", &text)?,
            None => endpoint.is_some(),
        },
    };
    builder = builder.with_virtual_hosted_style_request(!path_style);
    if let Some(endpoint) = endpoint {
        let url = endpoint_url(&endpoint, bucket, path_style)?;
        // Without keys the client asks Amazon's machines for a role; there are none behind an own endpoint.
        if !has_credentials {
            return Err(usage(format!(
                "an S3 endpoint of your own needs keys: {} and {}, or {} and {} in the environment",
                ACCESS_KEY[0], SECRET_KEY[0], KEY_VARIABLES[0], KEY_VARIABLES[1]
            )));
        }
        builder = builder
            .with_allow_http(url.starts_with("http://"))
            .with_endpoint(url);
    }
    Ok(builder)
}

/// Keys given by name or in the environment; without them the builder asks the machine's role.
struct StaticCredential(Arc<AwsCredential>);

impl StaticCredential {
    fn find(
        settings: &BTreeMap<String, String>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Error> {
        let setting = |names: &[&str]| names.iter().find_map(|name| settings.get(*name)).cloned();
        let variable = |name| {
            environment
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        // A key, its secret and its token belong together: they are never mixed from two places.
        let (key_id, secret_key, token, names) = match (setting(&ACCESS_KEY), setting(&SECRET_KEY))
        {
            (None, None) => {
                let [key_id, secret_key, token] = KEY_VARIABLES.map(variable);
                (
                    key_id,
                    secret_key,
                    token,
                    [KEY_VARIABLES[0], KEY_VARIABLES[1]],
                )
            }
            (key_id, secret_key) => (
                key_id,
                secret_key,
                setting(&SESSION_TOKEN),
                [ACCESS_KEY[0], SECRET_KEY[0]],
            ),
        };
        let half = |is: &str, not: &str| usage(format!("{is} is set but {not} is not"));
        match (key_id, secret_key) {
            (Some(key_id), Some(secret_key)) => Ok(Some(Self(Arc::new(AwsCredential {
                key_id,
                secret_key,
                token,
            })))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(half(names[0], names[1])),
            (None, Some(_)) => Err(half(names[1], names[0])),
        }
    }
}

impl fmt::Debug for StaticCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticCredential(..)")
    }
}

#[async_trait]
impl CredentialProvider for StaticCredential {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        Ok(self.0.clone())
    }
}

/// The URL that requests go to: with the bucket's name in front of the host unless that belongs in the path.
fn endpoint_url(endpoint: &str, bucket: &str, path_style: bool) -> Result<String, Error> {
    let with_scheme = if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("https://{endpoint}")
    };
    let wrong = |why: &str| {
        usage(format!(
            "the S3 endpoint is not a URL like https://host:9000: {why}"
        ))
    };
    let mut url = Url::parse(&with_scheme).map_err(|e| wrong(&e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "it contains credentials, which belong in s3.access-key and s3.secret-key",
        ));
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(&format!("its scheme is `{}`", url.scheme())));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it contains `?` or `#`"));
    }
    let host = url
        .host_str()
        .ok_or_else(|| wrong("it has no host"))?
        .to_owned();
    if !path_style && !host.starts_with(&format!("{bucket}.")) {
        url.set_host(Some(&format!("{bucket}.{host}")))
            .map_err(|_| wrong("the bucket's name cannot stand before this host; set s3.path.style.access: true"))?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn boolean(key: &str, text: &str) -> Result<bool, Error> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(usage(format!(
            "{key} must be true or false, found `{text}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_by_style() {
        for (endpoint, path_style, expected) in [
            ("http://127.0.0.1:9000/", true, "http://127.0.0.1:9000"),
            ("minio:9000", true, "https://minio:9000"),
            (
                "https://s3.example.com",
                false,
                "https://data.s3.example.com",
            ),
            (
                "http://data.localhost:9000",
                false,
                "http://data.localhost:9000",
            ),
            ("https://host/below", true, "https://host/below"),
        ] {
            assert_eq!(
                endpoint_url(endpoint, "data", path_style).unwrap(),
                expected
            );
        }
        for (endpoint, path_style) in [
            ("ftp://host", true),
            ("http://", true),
            ("https://h?x", true),
            ("http://127.0.0.1:9000", false),
        ] {
            // A bucket before an address would be no host: `data.127.0.0.1` is refused by the URL standard.
            assert!(
                endpoint_url(endpoint, "data", path_style).is_err(),
                "{endpoint}"
            );
        }
        let error = endpoint_url("http://key:verysecret@host", "data", true).unwrap_err();
        assert!(!format!("{error:?}").contains("verysecret"));
    }
}
