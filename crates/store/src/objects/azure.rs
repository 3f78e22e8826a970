//! Azure Blob Storage and Data Lake Storage: `abfs(s)://container@account.dfs.core.windows.net/path` and `wasb(s)://…blob…`.
//!
//! Both names lead to the account's blob service, over TLS unless an endpoint of one's own says otherwise. Credentials are an
//! account key, a client of Microsoft Entra, or what the `AZURE_…` variables name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::azure::{AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::{CredentialProvider, ObjectStore};
use url::Url;

use super::error::usage;
use super::location::AzureAccount;
use super::opaque::Opaque;
use super::patience::{AZURE, Patience};
use crate::Error;

/// `fs.azure.account.key` or that with `.account` or `.account.blob.core.windows.net` behind it; so are the others.
pub(super) const ACCOUNT_KEY: &str = "fs.azure.account.key";
pub(super) const CLIENT_ID: &str = "fs.azure.account.oauth2.client.id";
pub(super) const CLIENT_SECRET: &str = "fs.azure.account.oauth2.client.secret";
/// `https://login.microsoftonline.com/<tenant>/oauth2/token`.
pub(super) const CLIENT_ENDPOINT: &str = "fs.azure.account.oauth2.client.endpoint";
/// Where the account is, if not at Microsoft: with the account's name in the path, as emulators have it.
pub(super) const ENDPOINT: &str = "fs.azure.endpoint";

const KEY_VARIABLES: [&str; 2] = ["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"];
pub(super) const ACCOUNT_VARIABLES: [&str; 2] =
    ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"];
const ENDPOINT_VARIABLES: [&str; 2] = ["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"];

/// Ways to credentials other than a key.
const ROLE_VARIABLES: [&str; 7] = [
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_SKIP_SIGNATURE",
];

pub(super) fn open(
    container: &str,
    account: Option<&AzureAccount>,
    settings: &BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
) -> Result<Arc<dyn ObjectStore>, Error> {
    super::tls::install_provider();
    let variable = |names: &[&str]| {
        let found = names.iter().find_map(|name| environment.get(*name));
        found.filter(|value| !value.is_empty()).cloned()
    };
    let name = match account {
        Some(account) => account.name.clone(),
        None => variable(&ACCOUNT_VARIABLES).ok_or_else(|| {
            usage(format!(
                "the Azure container `{container}` needs an account: abfss://{container}@account.dfs.core.windows.net, or {} in the \
                 environment",
                ACCOUNT_VARIABLES[0]
            ))
        })?,
    };
    // A setting for one account counts before the one for all.
    let setting = |key: &str| {
        let host = account.map(|account| format!("{key}.{}", account.host));
        let blob = format!("{key}.{name}.blob.core.windows.net");
        let dfs = format!("{key}.{name}.dfs.core.windows.net");
        let names = [
            host.unwrap_or_default(),
            blob,
            dfs,
            format!("{key}.{name}"),
            key.to_owned(),
        ];
        names.iter().find_map(|name| settings.get(name)).cloned()
    };
    let patience = Patience::find(&AZURE, settings)?;
    let mut client = patience.client();
    let mut builder = MicrosoftAzureBuilder::new().with_retry(patience.retry());
    for (variable, value) in environment {
        let key = variable.to_ascii_lowercase().parse::<AzureConfigKey>();
        let ours = KEY_VARIABLES
            .iter()
            .chain(&ENDPOINT_VARIABLES)
            .chain(&ACCOUNT_VARIABLES);
        let ours = ours.into_iter().any(|known| known == variable);
        if let (true, false, false, Ok(key)) =
            (variable.starts_with("AZURE_"), ours, value.is_empty(), key)
        {
            builder = builder.with_config(key, value);
        }
    }
    // Without any of these the client asks the machine for a role.
    let mut has_credentials = ROLE_VARIABLES
        .iter()
        .any(|name| variable(&[*name]).is_some());
    let mut given = setting(ACCOUNT_KEY);
    let (id, secret) = (setting(CLIENT_ID), setting(CLIENT_SECRET));
    match (id, secret, setting(CLIENT_ENDPOINT)) {
        (Some(id), Some(secret), Some(endpoint)) => {
            has_credentials = true;
            let (authority, tenant) = tenant(&endpoint)?;
            builder = builder
                .with_client_secret_authorization(id, secret, tenant)
                .with_authority_host(authority);
        }
        (None, None, None) => given = given.or_else(|| variable(&KEY_VARIABLES)),
        _ => {
            return Err(usage(format!(
                "a client of Microsoft Entra needs all of {CLIENT_ID}, {CLIENT_SECRET} and {CLIENT_ENDPOINT}"
            )));
        }
    }
    if let Some(key) = given {
        has_credentials = true;
        let key = AzureAccessKey::try_new(key.trim())
            .map_err(|_| usage(format!("{ACCOUNT_KEY} of account `{name}` is not Base64")))?;
        builder =
            builder.with_credentials(Arc::new(Key(Arc::new(AzureCredential::AccessKey(key)))));
    }
    let endpoint = settings
        .get(ENDPOINT)
        .cloned()
        .or_else(|| variable(&ENDPOINT_VARIABLES));
    let own = endpoint.is_some();
    let endpoint = match (endpoint, account) {
        (Some(endpoint), _) => Some(endpoint_url(&endpoint)?),
        (None, Some(account)) if !account.is_public() => Some(account.blob_url()),
        _ => None,
    };
    if own && !has_credentials {
        return Err(usage(format!(
            "an Azure endpoint of your own needs a key: {ACCOUNT_KEY}, or {} in the environment",
            KEY_VARIABLES[0]
        )));
    }
    if let Some(endpoint) = endpoint {
        client = client.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_endpoint(endpoint);
    }
    let objects = builder
        .with_client_options(client)
        .with_account(&name)
        .with_container_name(container)
        .build()
        .map_err(|error| {
            usage(format!(
                "the Azure client for container `{container}` of account `{name}` cannot be made: {error}"
            ))
        })?;
    let name = format!("MicrosoftAzure({container}@{name})");
    Ok(Arc::new(Opaque::new(objects, name)))
}

/// An account key that is not shown.
struct Key(Arc<AzureCredential>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[async_trait]
impl CredentialProvider for Key {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        Ok(self.0.clone())
    }
}

/// The authority and the tenant in `https://authority/tenant/oauth2/token`.
fn tenant(endpoint: &str) -> Result<(String, String), Error> {
    let url = Url::parse(endpoint).ok();
    let tenant = url.as_ref().and_then(|url| url.path_segments()?.next());
    match (&url, tenant) {
        (Some(url), Some(tenant)) if url.has_host() && !tenant.is_empty() => {
            Ok((url.origin().ascii_serialization(), tenant.to_owned()))
        }
        _ => Err(usage(format!(
            "{CLIENT_ENDPOINT} is not a URL like https://login.microsoftonline.com/tenant/oauth2/token"
        ))),
    }
}

fn endpoint_url(text: &str) -> Result<String, Error> {
    let wrong = |why: &str| {
        usage(format!(
            "{ENDPOINT} is not a URL like http://127.0.0.1:10000/account: {why}"
        ))
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("http:// or https:// and a host are expected"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(wrong("it contains credentials or a `?`"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
