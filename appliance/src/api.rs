//! REST over JSON, used by the page and by `eli`: one file per resource; `router.rs` lists every route.
