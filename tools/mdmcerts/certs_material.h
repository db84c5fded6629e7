/*
 * certs_material.h - mdmcerts: certificates and keys from files.  What forms
 * they may have, and what can be wrong, is the core's
 * (mdm_x509_material.h); here are the files, and the terminal.
 */
#ifndef CERTS_MATERIAL_H
#define CERTS_MATERIAL_H

#include "certs_io.h"
#include "mdm_x509_material.h"

/* Adds what the file holds.  The question is put if something is encrypted;
 * the answer stays in *secret_r (zeroed beforehand) and is tried for what
 * comes next.  Without a question only certificates are looked for.
 * MDM_ENOTFOUND: no such file.  MDM_EINVAL: see mdm_material_read(). */
mdm_rc certs_material_read(const char *path, const certs_question_t *question,
                           certs_secret_t *secret_r, mdm_material_t *m,
                           mdm_err_t *err) MDM_USE_RESULT;

/* Certificates and key as PEM, the key in the clear. */
mdm_rc certs_material_pem(const mdm_material_t *m, mdm_buf_t *pem,
                          mdm_err_t *err) MDM_USE_RESULT;

#endif
