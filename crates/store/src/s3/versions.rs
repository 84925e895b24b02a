//! What only `probe` asks of a bucket: locks tried, versions read and removed.

use bytes::Bytes;
use http::Method;

use super::{Checksum, S3, checksum, now, xml};
use crate::{
    port::{ObjectName, StoreError},
    url::encode,
};

impl S3 {
    /// Puts an object and tells the id of its version, if the store gave one. `locked_seconds`: locked
    /// that long by the store's clock, in the mode of the settings.
    pub(crate) async fn put_version(
        &self,
        name: &ObjectName,
        body: &'static str,
        locked_seconds: Option<u32>,
    ) -> Result<Option<String>, StoreError> {
        let mut draft = self.draft(Method::PUT, name.as_str());
        draft.body = Bytes::from_static(body.as_bytes());
        if let Some(seconds) = locked_seconds {
            draft.lock(self.config.lock_mode, now() + self.skew_seconds().unwrap_or(0) + i64::from(seconds));
            // AWS takes no lock without.
            draft.headers.extend(checksum::header(Checksum::Md5, body.as_bytes()));
        }
        let answer = self.run(draft).await?;
        let id = answer.headers.get("x-amz-version-id").and_then(|id| id.to_str().ok());
        Ok(id.filter(|id| *id != "null").map(str::to_owned))
    }

    pub(crate) async fn get_version(&self, name: &ObjectName, id: &str) -> Result<Bytes, StoreError> {
        let mut draft = self.draft(Method::GET, name.as_str());
        draft.query = format!("versionId={}", encode(id, false));
        self.run(draft).await?.whole()
    }

    /// Removes a version for good. `lift`: with the right to lift a lock of governance mode, if we have it.
    pub(crate) async fn delete_version(&self, name: &ObjectName, id: &str, lift: bool) -> Result<(), StoreError> {
        let mut draft = self.draft(Method::DELETE, name.as_str());
        draft.query = format!("versionId={}", encode(id, false));
        if lift {
            draft.header("x-amz-bypass-governance-retention", "true");
        }
        self.run(draft).await.map(drop)
    }

    /// Some of the versions and marks of deletion below `prefix`; none when there are no more.
    pub(crate) async fn versions(&self, prefix: &str) -> Result<Vec<(ObjectName, String)>, StoreError> {
        let mut draft = self.draft(Method::GET, "");
        draft.path = self.target.bucket_path();
        draft.query = format!("prefix={}&versions=", encode(&self.key(prefix), false));
        let answer = self.run(draft).await?;
        let listed = xml::parse_versions(&answer.body)
            .ok_or_else(|| StoreError::Garbled { detail: "the answer to a listing of versions is none".into() })?;
        let ours = |version: xml::ListedVersion| {
            let name = version.key.strip_prefix(&self.target.prefix).map(ObjectName::new)?.ok()?;
            Some((name, version.id))
        };
        Ok(listed.into_iter().filter_map(ours).collect())
    }
}
