//! The one way a server of this crate takes an address.
//!
//! Only loopback is taken: there is no access control yet, so anyone who reaches the port can read every table.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::QueryError;

/// Listens on `address`; port 0 takes a free one (ask the listener which). Refuses an address that other machines reach, and
/// names the address if another process has it.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, QueryError> {
    if !address.ip().is_loopback() {
        return Err(QueryError::Refused {
            what: format!(
                "{address} can be reached from other machines, and there is no access control yet: whoever connects reads every table"
            ),
            hint: format!("use 127.0.0.1:{}, and an SSH tunnel to reach it from elsewhere", address.port()),
        });
    }
    TcpListener::bind(address).await.map_err(|why| match why.kind() {
        ErrorKind::AddrInUse => QueryError::Refused {
            what: format!("another process listens on {address} already"),
            hint: "stop it, or choose another port (0 takes a free one)".to_owned(),
        },
        _ => QueryError::Setup(format!("cannot listen on {address}: {why}").into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_machines_are_kept_out_with_the_reason() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let refused = listen(address.parse().unwrap()).await.expect_err(address).to_string();
            assert!(refused.contains(address) && refused.contains("no access control yet"), "{refused}");
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let refused = listen(address).await.expect_err("it is taken").to_string();
        assert!(refused.contains(&address.to_string()) && refused.contains("already"), "{refused}");
    }
}
