/*
 * mdm_net.h - addresses and networks as text: is a peer inside one of the
 * networks that an administrator named?  No names, no sockets.  Any thread;
 * no state.
 */
#ifndef MDM_NET_H
#define MDM_NET_H

#include "mdm_base.h"
#include "mdm_err.h"

/* A network; one address is a network of its own.  IPv4-mapped IPv6 is kept
 * as the IPv4 that it means. */
typedef struct mdm_net {
    unsigned char address[16]; /* the first 4 bytes with IPv4 */
    unsigned bits;
    bool ipv4;
} mdm_net_t;

/* "10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::ffff:10.0.0.0/104".
 * MDM_EINVAL: malformed, or bits behind the prefix are set; the text then
 * names the network that it should be. */
mdm_rc mdm_net_parse(mdm_str_t text, mdm_net_t *net_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* Is the address, text as sockets print it (a zone "%eth0" is passed over),
 * in one of the networks?  False for anything that is no address. */
bool mdm_net_has(const mdm_net_t *nets, size_t n, mdm_str_t address);

#endif
