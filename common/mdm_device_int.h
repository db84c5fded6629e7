/*
 * mdm_device_int.h - between mdm_device.c (which message it is, who sends it)
 * and the handlers of single messages.
 */
#ifndef MDM_DEVICE_INT_H
#define MDM_DEVICE_INT_H

#include "mdm_checkin.h"
#include "mdm_device.h"
#include "mdm_enroll.h"

#define MDM_XML_TYPE "application/xml; charset=UTF-8"

/* One message of a device. */
typedef struct mdm_device_call {
    mdm_server_t *server;
    const mdm_request_t *request;
    mdm_response_t *response;
    mdm_arena_t *arena; /* of the response */
    mdm_str_t body;     /* as it came */
    mdm_speaker_t speaker;
    int64_t eid; /* who sent it; 0: nobody was admitted */
} mdm_device_call_t;

/* Answers 200 with a dictionary.  Store and memory errors as they are;
 * MDM_EINVAL: see mdm_plist_write(). */
mdm_rc mdm_device_reply_plist(mdm_device_call_t *call,
                              const mdm_plist_put_t *items, size_t n,
                              mdm_err_t *err) MDM_USE_RESULT;

/* What the device has escrowed, in the call's arena; absent: nothing.  Store
 * errors. */
mdm_rc mdm_device_bootstrap_token(mdm_device_call_t *call, int64_t device_eid,
                                  mdm_str_t *token_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* A handler answers a check-in whose sender has been admitted
 * (mdm_enroll_admit), or fails with what mdm_http.c makes a status of. */
typedef mdm_rc mdm_device_fn(mdm_device_call_t *call,
                             const mdm_checkin_t *msg,
                             const mdm_admitted_t *who, mdm_err_t *err);

/* mdm_device_services.c: what a device asks of others through us. */
mdm_device_fn mdm_device_declarative_management;
mdm_device_fn mdm_device_get_token;
mdm_device_fn mdm_device_return_to_service;

#endif
