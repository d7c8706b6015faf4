//! `eli`, the console client: the same REST API as the page, over TLS with a pinned certificate.
