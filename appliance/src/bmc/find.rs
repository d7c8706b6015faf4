//! Finding which of the operator's logins a BMC takes.

use fleet::Timestamp;

use super::{BmcError, Bmcs, Endpoint, Login};

impl Bmcs {
    /// The name of the first login that works, in the order given. Stops when the BMC has refused as many as the
    /// budget lets: the rest is tried after the pause, so begin with the likely ones.
    pub async fn find(
        &self,
        endpoint: &Endpoint,
        logins: &[(String, Login)],
        now: Timestamp,
    ) -> Result<String, BmcError> {
        for (name, login) in logins {
            match self.at(endpoint, Some(login), now).identify().await {
                Ok(_) => return Ok(name.clone()),
                Err(BmcError::Refused { .. }) => {
                    tracing::info!(bmc.address = %endpoint.address, "The BMC refuses the login {name:?}");
                }
                // An agent does not say whether it was the login. Guessing on might lock the account as well.
                Err(BmcError::Failed { program, address, why }) if logins.len() > 1 => {
                    self.budget().refused(&endpoint.address, now);
                    tracing::info!(bmc.address = %address, "{program} does not get in with the login {name:?}: {why}");
                }
                Err(error) => return Err(error),
            }
        }
        let tried: Vec<&str> = logins.iter().map(|(name, _)| name.as_str()).collect();
        Err(BmcError::NoneWorks { address: endpoint.address.clone(), tried: tried.join(", ") })
    }
}
