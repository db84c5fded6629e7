/*
 * t_catalog_world.h - the catalogue's tables, and arguments that fit them, for
 * the tests of the catalogue.  Included once by each.
 */
#ifndef T_CATALOG_WORLD_H
#define T_CATALOG_WORLD_H

#include <stdlib.h>

#include "mdm_catalog.h"
#include "mdm_str.h"

typedef struct world {
    const mdm_catalog_key_t *keys;
    size_t nkeys;
    const mdm_catalog_command_t *commands;
    size_t ncommands;
} world_t;

static world_t the_world(void)
{
    world_t w;

    w.keys = mdm_catalog_keys(&w.nkeys);
    w.commands = mdm_catalog_commands(&w.ncommands);
    return w;
}

#endif
