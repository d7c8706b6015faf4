//! Packages: `.eli` bundles as they come in, are kept, and become configuration files on a node.
