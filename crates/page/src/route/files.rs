//! Snapshots, and what lies in them.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::{
    asked,
    fields::{Asked, Fields},
    shown, trouble,
};
use crate::{
    App,
    auth::Who,
    model::{Answer, ErrorKind, Inside, SourceError},
    view::{self, Here, snapshots::PAGE, words::encoded},
};

/// Longer names no snapshot has, bytes.
const NAME_BYTES_MAX: usize = 255;

/// A place in a snapshot, as a browser names it.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) snapshot: String,
    pub(crate) path: String,
    pub(crate) skip: String,
}

impl Place {
    pub(crate) fn of(fields: &Fields) -> Self {
        let get = |name: &str| fields.get(name).to_owned();
        Self { snapshot: get("snapshot"), path: get("path"), skip: get("skip") }
    }

    /// The snapshot's name and the path in it, if they can be meant.
    pub(crate) fn read(&self) -> Answer<(&str, Inside)> {
        let missing = || {
            SourceError::new(ErrorKind::Missing, "there is no such file or folder in this snapshot")
                .meaning("nothing was opened")
                .next("begin with the list of snapshots")
        };
        let name = self.snapshot.as_str();
        let odd =
            name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(['/', '\0']) || matches!(name, "." | "..");
        if odd {
            return Err(missing());
        }
        Inside::parse(&self.path).map(|path| (name, path)).map_err(|_| missing())
    }

    fn skip(&self) -> usize {
        self.skip.parse().unwrap_or(0)
    }
}

pub(crate) async fn snapshots(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    Asked(fields): Asked,
) -> Response {
    let place = Place::of(&fields);
    match asked(app.source.snapshots()).await {
        Ok(all) => shown(view::snapshots::page(&app.frame(&who, Here::Snapshots), &all, place.skip())),
        Err(error) => trouble(&app, &who, Here::Snapshots, &error),
    }
}

pub(crate) async fn browse(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    Asked(fields): Asked,
) -> Response {
    let place = Place::of(&fields);
    let listed = asked(async {
        let (snapshot, path) = place.read()?;
        let listing = app.source.browse(snapshot, &path, place.skip(), PAGE).await?;
        Ok((snapshot, path, listing))
    });
    match listed.await {
        Ok((snapshot, path, listing)) => {
            let frame = app.frame(&who, Here::Snapshots);
            shown(view::snapshots::folder(&frame, snapshot, &path, &listing, place.skip()))
        }
        Err(error) => trouble(&app, &who, Here::Snapshots, &error),
    }
}

pub(crate) async fn download(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    Asked(fields): Asked,
) -> Response {
    let place = Place::of(&fields);
    let opened = asked(async {
        let (snapshot, path) = place.read()?;
        app.source.open(snapshot, &path).await
    });
    let file = match opened.await {
        Ok(file) => file,
        Err(error) => return trouble(&app, &who, Here::Snapshots, &error),
    };
    // Whatever it is, it is saved and never shown: a photo may be a page with a script in it.
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, file.bytes.to_string()),
        (header::CONTENT_DISPOSITION, disposition(&file.name)),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".to_owned()),
    ];
    (StatusCode::OK, headers, Body::from_stream(file.content)).into_response()
}

/// The name twice: for old browsers in ASCII, and as it is.
fn disposition(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || " ._-()".contains(c) { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", encoded(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_break_no_header() {
        assert_eq!(
            disposition("Straße \"1\"\r\nx: y.jpg"),
            "attachment; filename=\"Stra_e _1___x_ y.jpg\"; filename*=UTF-8''Stra%C3%9Fe%20%221%22%0D%0Ax%3A%20y.jpg"
        );
    }

    #[test]
    fn what_leads_out_of_a_snapshot_is_not_there() {
        let read = |snapshot: &str, path: &str| {
            let place = Place { snapshot: snapshot.into(), path: path.into(), skip: String::new() };
            place.read().map(|(name, path)| format!("{name}:{path}")).map_err(|error| error.kind)
        };
        assert_eq!(read("a", "b/c"), Ok("a:b/c".into()));
        for (snapshot, path) in
            [("..", "etc"), (".", ""), ("", ""), ("a/b", ""), ("a", "../b"), ("a\0", ""), ("a", "b/\0")]
        {
            assert_eq!(read(snapshot, path), Err(ErrorKind::Missing), "{snapshot:?} {path:?}");
        }
    }
}
