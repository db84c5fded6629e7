/*
 * mdm_net.c - see mdm_net.h.
 */
#include "mdm_net.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "mdm_str.h"

#define IPV4_BITS 32U
#define IPV6_BITS 128U
#define MAPPED_BITS 96U /* prefix of ::ffff:0:0/96 */

/* One address, without prefix length. */
static bool parse_address(mdm_str_t text, mdm_net_t *net)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0,    0,
                                             0, 0, 0, 0, 0xff, 0xff};
    char name[INET6_ADDRSTRLEN + 1];

    memset(net, 0, sizeof(*net));
    if (text.n == 0 || text.n >= sizeof(name) ||
        memchr(text.s, '\0', text.n) != NULL) {
        return false;
    }
    memcpy(name, text.s, text.n);
    name[text.n] = '\0';
    if (inet_pton(AF_INET, name, net->address) == 1) {
        net->ipv4 = true;
        net->bits = IPV4_BITS;
        return true;
    }
    if (inet_pton(AF_INET6, name, net->address) != 1) {
        return false;
    }
    net->bits = IPV6_BITS;
    if (memcmp(net->address, mapped, sizeof(mapped)) == 0) {
        net->ipv4 = true;
        net->bits = IPV4_BITS;
        memmove(net->address, net->address + sizeof(mapped), 4);
        memset(net->address + 4, 0, sizeof(net->address) - 4);
    }
    return true;
}

/* Clears what is behind the prefix; true when something was there. */
static bool clear_host_bits(mdm_net_t *net)
{
    size_t n = net->ipv4 ? 4 : sizeof(net->address);
    bool found = false;
    unsigned keep;
    unsigned char mask;
    size_t i;

    for (i = 0; i < n; i++) {
        keep = net->bits > 8 * i ? net->bits - 8 * (unsigned)i : 0;
        mask = keep >= 8 ? 0xff : (unsigned char)(0xff00U >> keep);
        found = found || (net->address[i] & ~mask & 0xff) != 0;
        net->address[i] &= mask;
    }
    return found;
}

mdm_rc mdm_net_parse(mdm_str_t text, mdm_net_t *net_r, mdm_err_t *err)
{
    mdm_str_t rest = text;
    mdm_str_t address = mdm_str_split(&rest, '/');
    char name[INET6_ADDRSTRLEN];
    uint64_t bits = 0;
    bool six = address.n > 0 && memchr(address.s, ':', address.n) != NULL;
    uint64_t max = six ? IPV6_BITS : IPV4_BITS;

    if (!parse_address(address, net_r)) {
        return mdm_err_set(err, MDM_EINVAL, 0, "not an IP address");
    }
    if (rest.s == NULL) {
        return MDM_OK;
    }
    if (!mdm_parse_u64(rest, max, &bits)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the prefix length is not a number from 0 to %u",
                           (unsigned)max);
    }
    if (six && net_r->ipv4) {
        if (bits < MAPPED_BITS) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "a network of IPv4-mapped addresses has a "
                               "prefix length from 96 to 128");
        }
        bits -= MAPPED_BITS;
    }
    net_r->bits = (unsigned)bits;
    if (clear_host_bits(net_r)) {
        (void)inet_ntop(net_r->ipv4 ? AF_INET : AF_INET6, net_r->address,
                        name, sizeof(name));
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the address has bits behind the prefix length; "
                           "the network is %s/%u",
                           name, net_r->bits);
    }
    return MDM_OK;
}

bool mdm_net_has(const mdm_net_t *nets, size_t n, mdm_str_t address)
{
    mdm_net_t one;
    mdm_net_t cut;
    size_t i;

    if (!parse_address(mdm_str_split(&address, '%'), &one)) {
        return false;
    }
    for (i = 0; i < n; i++) {
        if (nets[i].ipv4 != one.ipv4) {
            continue;
        }
        cut = one;
        cut.bits = nets[i].bits;
        (void)clear_host_bits(&cut);
        if (memcmp(cut.address, nets[i].address, sizeof(cut.address)) == 0) {
            return true;
        }
    }
    return false;
}
