//! Google Cloud Storage.
//!
//! Credentials come from the key file that a setting or `GOOGLE_APPLICATION_CREDENTIALS` names, from what `gcloud` has left,
//! or from the machine's role. A root URL of one's own (an emulator) is asked without credentials unless a key file is named.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{CredentialProvider, ObjectStore};
use url::Url;

use super::error::usage;
use super::opaque::Opaque;
use super::patience::{GCS, Patience};
use crate::Error;

/// Names of the settings.
pub(super) const KEY_FILE: [&str; 2] = [
    "fs.gs.auth.service.account.json.keyfile",
    "google.cloud.auth.service.account.json.keyfile",
];
pub(super) const ROOT_URL: [&str; 1] = ["fs.gs.storage.root.url"];
/// The variable that Google's own clients look at for an emulator.
pub(super) const EMULATOR_VARIABLE: &str = "STORAGE_EMULATOR_HOST";

pub(super) fn open(
    bucket: &str,
    settings: &BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
) -> Result<Arc<dyn ObjectStore>, Error> {
    super::tls::install_provider();
    let setting = |names: &[&str]| names.iter().find_map(|name| settings.get(*name)).cloned();
    let patience = Patience::find(&GCS, settings)?;
    let mut client = patience.client();
    let mut builder = GoogleCloudStorageBuilder::new().with_retry(patience.retry());
    let mut has_key = false;
    for (name, value) in environment {
        let key = name.to_ascii_lowercase().parse::<GoogleConfigKey>();
        if let (true, false, Ok(key)) = (name.starts_with("GOOGLE_"), value.is_empty(), key) {
            has_key |= key != GoogleConfigKey::BaseUrl;
            builder = builder.with_config(key, value);
        }
    }
    if let Some(path) = setting(&KEY_FILE) {
        has_key = true;
        builder = builder.with_service_account_path(path);
    }
    let root = setting(&ROOT_URL).or_else(|| {
        let emulator = environment.get(EMULATOR_VARIABLE);
        emulator.filter(|value| !value.is_empty()).cloned()
    });
    if let Some(root) = root {
        let root = root_url(&root)?;
        client = client.with_allow_http(root.starts_with("http://"));
        builder = builder.with_base_url(&root);
        if !has_key {
            // Not to sign is not enough: the client's writes ask the machine for a role all the same.
            builder = builder
                .with_skip_signature(true)
                .with_credentials(Arc::new(Nobody));
        }
    }
    let objects = builder
        .with_client_options(client)
        .with_bucket_name(bucket)
        .build()
        // The builder's errors name files and not what is in them.
        .map_err(|error| {
            usage(format!(
                "the Google Cloud Storage client for bucket `{bucket}` cannot be made: {error}"
            ))
        })?;
    let name = format!("GoogleCloudStorage({bucket})");
    Ok(Arc::new(Opaque::new(objects, name)))
}

/// The credentials of whoever asks an emulator: none, and none are looked for.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl CredentialProvider for Nobody {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        Ok(Arc::new(GcpCredential {
            bearer: String::new(),
        }))
    }
}

fn root_url(text: &str) -> Result<String, Error> {
    let with_scheme = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let wrong = |why: &str| {
        usage(format!(
            "the root URL of Google Cloud Storage is not one like https://storage.googleapis.com: {why}"
        ))
    };
    let url = Url::parse(&with_scheme).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(&format!("its scheme is `{}`", url.scheme())));
    }
    if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a host and nothing before it is expected"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
