//! Queries: what is wrong with one is said of the field that is wrong.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::body::at_field;
use super::problem::{ApiError, ApiResult};
use crate::app::AppState;

/// The query as a struct; unknown fields are ignored.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> ApiResult<Self> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> ApiResult<T> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let fields = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let path = error.path().to_string();
        at_field(&path, &error.into_inner().to_string()).into()
    })
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Page {
        limit: Option<u64>,
        after: Option<u64>,
    }

    #[test]
    fn a_query_is_read_and_what_is_wrong_is_refused() {
        let page: Page = parse("limit=5&more=x").unwrap();
        assert_eq!((page.limit, page.after), (Some(5), None));
        for bad in [
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=1&limit=2",
            "after=1.5",
        ] {
            let refused = parse::<Page>(bad).unwrap_err();
            assert_eq!(refused.into_response().status(), 422, "{bad}");
        }
    }
}
