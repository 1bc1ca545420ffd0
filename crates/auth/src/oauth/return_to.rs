//! Where a browser goes after it has signed in: a page of ours, and one that is known. Anything else would make of
//! our sign-in a way to send people to a page that only looks like ours.

use stack_types::Problem;
use url::Url;

const MAX_BYTES: usize = 512;

/// Pages, and what is below them.
const PAGES: [&str; 5] = ["/r", "/browse", "/settings", "/invite", "/admin"];

/// The page that a request's field `return_to` names; the first page without one.
///
/// # Errors
/// `invalid_field`.
pub(crate) fn return_to(asked: Option<&str>) -> Result<String, Problem> {
    match asked {
        None => Ok("/".to_owned()),
        Some(asked) => local(asked)
            .ok_or_else(|| Problem::invalid_field("return_to", "this is no page to come back to")),
    }
}

fn local(asked: &str) -> Option<String> {
    // Browsers take a backslash for a slash and drop tabs and line feeds, so that nothing but visible ASCII counts.
    let sane = asked.len() <= MAX_BYTES
        && asked
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && asked.starts_with('/')
        && !asked.starts_with("//");
    if !sane {
        return None;
    }
    let base = Url::parse("https://stack.invalid/").ok()?;
    let url = base.join(asked).ok()?;
    let path = url.path();
    // A path that only gets two slashes by being read is another host to whoever reads it again.
    if url.origin() != base.origin() || path.starts_with("//") || path.contains('@') {
        return None;
    }
    let known = path == "/"
        || PAGES.iter().any(|page| {
            let rest = path.strip_prefix(page);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    known.then(|| match url.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages_of_ours_are_known() {
        for (asked, page) in [
            ("/", "/"),
            ("/r/general", "/r/general"),
            ("/r/general?at=7", "/r/general?at=7"),
            ("/settings/linked#x", "/settings/linked"),
            ("/r/../settings", "/settings"),
        ] {
            assert_eq!(local(asked).as_deref(), Some(page), "{asked}");
        }
        for asked in [
            "",
            "r/general",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/ /evil.example",
            "/r/..//evil.example",
            "/.//evil.example",
            "/r/@evil.example",
            "https://evil.example/r/",
            "javascript:alert(1)",
            "/api/v1/auth/logout",
            "/settingsx",
            "/signin",
            "/%2f/evil.example",
        ] {
            assert_eq!(local(asked), None, "{asked:?}");
        }
        assert_eq!(local(&format!("/r/{}", "a".repeat(MAX_BYTES))), None);
    }

    proptest! {
        #[test]
        fn return_to_stays_here(asked in "(/|//|/r/|/settings|\\\\|@|:|\\.|%2f|%5c|https?:|\\t|\\PC){0,12}") {
            if let Some(page) = local(&asked) {
                let base = Url::parse("https://chat.example/").unwrap();
                let url = base.join(&page).unwrap();
                prop_assert_eq!(url.origin(), base.origin());
                prop_assert!(page.starts_with('/') && !page.starts_with("//"));
                // It is settled: whoever reads it again reads the same.
                prop_assert_eq!(local(&page), Some(page));
            }
        }

        #[test]
        fn any_text_is_answered(asked in any::<String>()) {
            let _ = return_to(Some(&asked));
        }
    }
}
