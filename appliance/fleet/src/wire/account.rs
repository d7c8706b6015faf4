//! The account that a host makes for the appliance at its own BMC.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BmcAccount {
    pub user: String,
    /// At most 16 characters, which every BMC takes.
    pub password: String,
}

impl fmt::Debug for BmcAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BmcAccount").field("user", &self.user).finish_non_exhaustive()
    }
}

/// `POST /node/ID/account`: what came of making it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountMade {
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
