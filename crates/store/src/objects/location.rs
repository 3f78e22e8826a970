//! What a checkpoint URI means. Pure; the error texts never repeat a URI that may carry a password.

use std::path::PathBuf;

use object_store::path::Path;
use url::Url;

use super::error::usage;
use crate::Error;

/// A parsed URI.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// An absolute local directory.
    Directory(PathBuf),
    /// A store of this process.
    Memory { name: String, base: Path },
    /// A bucket.
    S3 { bucket: String, base: Path },
    /// A bucket of Google Cloud Storage.
    Gcs { bucket: String, base: Path },
    /// A container of Azure; the account may be left to the environment.
    Azure {
        container: String,
        account: Option<AzureAccount>,
        base: Path,
    },
    /// A name node or name service.
    Hdfs { authority: String, base: Path },
}

/// An account of Azure as a URI names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AzureAccount {
    pub(super) name: String,
    /// `name.dfs.core.windows.net` or the like.
    pub(super) host: String,
}

impl AzureAccount {
    /// Whether it is in the cloud that everybody means.
    pub(super) fn is_public(&self) -> bool {
        self.host.ends_with(".core.windows.net")
    }

    /// Its blob service.
    pub(super) fn blob_url(&self) -> String {
        let rest = self.host.split_once('.').map_or("", |(_, rest)| rest);
        let rest = rest.strip_prefix("dfs.").unwrap_or(rest);
        let rest = rest.strip_prefix("blob.").unwrap_or(rest);
        format!("https://{}.blob.{rest}", self.name)
    }
}

impl Location {
    pub fn parse(uri: &str) -> Result<Self, Error> {
        if uri.trim().is_empty() {
            return Err(usage(
                "an object store location is expected, found an empty text",
            ));
        }
        let Some((scheme, rest)) = split_scheme(uri) else {
            return Self::directory(PathBuf::from(uri));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => Self::file_uri(uri),
            "memory" => {
                let (name, base) = split_authority("memory", rest)?;
                Ok(Self::Memory { name, base })
            }
            "s3" | "s3a" => {
                let (bucket, base) = split_authority("s3", rest)?;
                check_bucket(&bucket)?;
                Ok(Self::S3 { bucket, base })
            }
            "gs" => {
                let (bucket, base) = split_authority("gs", rest)?;
                check_bucket(&bucket)?;
                Ok(Self::Gcs { bucket, base })
            }
            scheme @ ("abfs" | "abfss" | "wasb" | "wasbs") => Self::azure(scheme, rest),
            "hdfs" => {
                let (authority, base) = split_authority("hdfs", rest)?;
                Ok(Self::Hdfs { authority, base })
            }
            _ => Err(usage(format!(
                "the scheme `{scheme}` of an object store location is not known: expected a local path, file:///directory, \
                 memory://name, s3://bucket/prefix, gs://bucket/prefix, abfss://container@account.dfs.core.windows.net/prefix or \
                 hdfs://namenode/prefix"
            ))),
        }
    }

    /// A URI of the whole store, without the path below it. Two locations with the same root are in one store, where full paths
    /// mean the same.
    pub fn root(&self) -> String {
        match self {
            Self::Directory(directory) => directory.display().to_string(),
            Self::Memory { name, .. } => format!("memory://{name}"),
            Self::S3 { bucket, .. } => format!("s3://{bucket}"),
            Self::Gcs { bucket, .. } => format!("gs://{bucket}"),
            Self::Azure {
                container, account, ..
            } => match account {
                Some(account) => format!("abfss://{container}@{}", account.host),
                None => format!("abfss://{container}"),
            },
            Self::Hdfs { authority, .. } => format!("hdfs://{authority}"),
        }
    }

    /// The local directory that the store is.
    pub fn local_directory(&self) -> Option<&std::path::Path> {
        match self {
            Self::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn azure(scheme: &str, rest: &str) -> Result<Self, Error> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (container, host) = match authority.split_once('@') {
            Some((container, host)) => (container, Some(host)),
            None => (authority, None),
        };
        let plain = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '$');
            !text.is_empty() && text.chars().all(allowed)
        };
        let host_is_one = |host: &str| host.split('.').count() >= 3 && host.split('.').all(plain);
        if !plain(container) || !host.is_none_or(host_is_one) {
            return Err(usage(format!(
                "a {scheme}:// location must look like {scheme}://container@account.dfs.core.windows.net/prefix, without credentials"
            )));
        }
        let account = host.map(|host| AzureAccount {
            name: host.split('.').next().unwrap_or_default().to_owned(),
            host: host.to_ascii_lowercase(),
        });
        let (_, base) = split_authority(scheme, &format!("{container}/{path}"))?;
        Ok(Self::Azure {
            container: container.to_owned(),
            account,
            base,
        })
    }

    fn file_uri(uri: &str) -> Result<Self, Error> {
        let wrong = |why: &str| usage(format!("`{uri}` is not a local directory: {why}"));
        let url = Url::parse(uri).map_err(|e| wrong(&e.to_string()))?;
        if let Some(host) = url.host_str() {
            return Err(wrong(&format!(
                "it names the host `{host}`; a local path has three slashes, as in file:///directory"
            )));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("`?` and `#` must be written as %3F and %23"));
        }
        let path = url
            .to_file_path()
            .map_err(|()| wrong("the path is not absolute"))?;
        Self::directory(path)
    }

    fn directory(path: PathBuf) -> Result<Self, Error> {
        let absolute = std::path::absolute(&path).map_err(|e| {
            usage(format!(
                "the path `{}` cannot be made absolute: {e}",
                path.display()
            ))
        })?;
        Ok(Self::Directory(absolute))
    }
}

/// `scheme://rest` or `file:rest`; anything else is a path (so is `C:\dir`).
fn split_scheme(uri: &str) -> Option<(&str, &str)> {
    if let Some((scheme, rest)) = uri.split_once("://") {
        let plausible = !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        return plausible.then_some((scheme, rest));
    }
    uri.get(..5)
        .filter(|s| s.eq_ignore_ascii_case("file:"))
        .map(|s| (&s[..4], &uri[5..]))
}

fn split_authority(scheme: &str, rest: &str) -> Result<(String, Path), Error> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(usage(format!(
            "a {scheme}:// location must not contain credentials; they belong in the configuration or in the environment"
        )));
    }
    if authority.is_empty() {
        return Err(usage(format!(
            "a {scheme}:// location must name something after the slashes, as in {scheme}://name/prefix"
        )));
    }
    if rest.contains(['?', '#']) {
        return Err(usage(format!(
            "a {scheme}:// location must not contain `?` or `#`"
        )));
    }
    let base = Path::parse(path.trim_matches('/')).map_err(|e| {
        usage(format!(
            "the path of the {scheme}:// location is not an object path: {e}"
        ))
    })?;
    Ok((authority.to_owned(), base))
}

fn check_bucket(bucket: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if (3..=255).contains(&bucket.len()) && bucket.chars().all(allowed) {
        Ok(())
    } else {
        Err(usage(format!(
            "`{bucket}` is not a bucket name: expected 3 to 255 letters, digits, dots, dashes or underscores"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(bucket: &str, base: &str) -> Location {
        Location::S3 {
            bucket: bucket.into(),
            base: base.into(),
        }
    }

    fn azure(host: &str, base: &str) -> Location {
        let account = AzureAccount {
            name: "me".into(),
            host: host.into(),
        };
        Location::Azure {
            container: "data".into(),
            account: (!host.is_empty()).then_some(account),
            base: base.into(),
        }
    }

    #[test]
    fn accounts_lead_to_their_blob_service() {
        for (host, url) in [
            (
                "me.dfs.core.windows.net",
                "https://me.blob.core.windows.net",
            ),
            (
                "me.blob.core.chinacloudapi.cn",
                "https://me.blob.core.chinacloudapi.cn",
            ),
            (
                "me.dfs.storage.example.org",
                "https://me.blob.storage.example.org",
            ),
        ] {
            let Location::Azure { account, .. } = azure(host, "") else {
                panic!("it is Azure")
            };
            let account = account.unwrap();
            assert_eq!(account.blob_url(), url);
            assert_eq!(account.is_public(), host.ends_with("windows.net"));
        }
    }

    #[test]
    fn every_form_is_understood() {
        let dir = |p: &str| Location::Directory(p.into());
        let here = std::env::current_dir().unwrap();
        for (uri, expected) in [
            ("/tmp/a", dir("/tmp/a")),
            ("file:///tmp/a", dir("/tmp/a")),
            ("file:/tmp/a", dir("/tmp/a")),
            ("FILE:///tmp/a%20b", dir("/tmp/a b")),
            ("file:///tmp/a b", dir("/tmp/a b")),
            ("a/b", Location::Directory(here.join("a/b"))),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            (
                "gs://bucket/a",
                Location::Gcs {
                    bucket: "bucket".into(),
                    base: "a".into(),
                },
            ),
            (
                "hdfs://namenode:8020/a/b",
                Location::Hdfs {
                    authority: "namenode:8020".into(),
                    base: "a/b".into(),
                },
            ),
            (
                "abfss://data@me.dfs.core.windows.net/a",
                azure("me.dfs.core.windows.net", "a"),
            ),
            (
                "wasb://data@me.blob.core.windows.net",
                azure("me.blob.core.windows.net", ""),
            ),
            ("abfs://data/a/b", azure("", "a/b")),
            ("s3a://my.bucket-1/a/b/", s3("my.bucket-1", "a/b")),
            (
                "memory://x",
                Location::Memory {
                    name: "x".into(),
                    base: "".into(),
                },
            ),
            (
                "memory://x/y",
                Location::Memory {
                    name: "x".into(),
                    base: "y".into(),
                },
            ),
        ] {
            assert_eq!(Location::parse(uri).unwrap(), expected, "{uri}");
        }
    }

    #[test]
    fn roots_open_the_same_store_without_the_path() {
        for (uri, root) in [
            ("/tmp/a", "/tmp/a"),
            ("file:///tmp/a", "/tmp/a"),
            ("s3a://bucket/a/b", "s3://bucket"),
            ("memory://x/y", "memory://x"),
        ] {
            let root_of = |uri: &str| Location::parse(uri).unwrap().root();
            assert_eq!(root_of(uri), root);
            assert_eq!(root_of(root), root, "a root is its own root");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (uri, says) in [
            ("", "empty"),
            ("ftp://host/a", "`ftp`"),
            ("ftp://host/a", "s3://bucket/prefix"),
            ("hdfs:///a", "must name something"),
            ("gs://a b", "bucket name"),
            ("abfss://@me.dfs.core.windows.net/a", "container@account"),
            ("abfss://data@me/a", "container@account"),
            (
                "abfss://data@me.dfs.core.windows.net/a//b",
                "not an object path",
            ),
            ("file://tmp/a", "three slashes"),
            ("file:///a?b", "%3F"),
            ("s3://", "must name something"),
            ("s3:///a", "must name something"),
            ("s3://a b/c", "bucket name"),
            ("s3://bucket/a//b", "not an object path"),
            ("s3://bucket/../b", "not an object path"),
            ("s3://bucket/a?b", "`?`"),
            ("memory://", "must name something"),
        ] {
            let error = Location::parse(uri).unwrap_err();
            assert_eq!(error.kind, crate::ErrorKind::Usage);
            assert!(error.message.contains(says), "{uri}: {error}");
        }
        let error = Location::parse("abfss://data:verysecret@me.dfs.core.windows.net").unwrap_err();
        assert!(!format!("{error:?}").contains("verysecret"));
        let error = Location::parse("s3://AKIAKEY:verysecret@bucket/a").unwrap_err();
        assert!(
            !format!("{error:?}").contains("verysecret") && !format!("{error:?}").contains("AKIA")
        );
    }
}
