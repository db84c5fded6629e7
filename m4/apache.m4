# apache.m4 - finds Apache httpd's build environment.
#
# MDM_CHECK_APACHE
#   --without-apache              leave mod_mdm out
#   --with-apxs=PATH              httpd's apxs (default: apxs or apxs2)
#   --with-apache-libexecdir=DIR  where the module is installed (default:
#                                 what apxs says)
#
# Sets the conditional WITH_APACHE, substitutes APXS, APACHE_CPPFLAGS and
# APACHE_LIBEXECDIR, and puts a word for the summary into with_apache_result.
# Host headers come by -isystem: their warnings are not
# ours.  apxs is asked for one variable a call, as it joins several values.
AC_DEFUN([MDM_CHECK_APACHE], [
  AC_ARG_WITH([apache],
    [AS_HELP_STRING([--without-apache], [do not build mod_mdm])],
    [], [with_apache=yes])
  AC_ARG_WITH([apxs],
    [AS_HELP_STRING([--with-apxs=PATH], [apxs of the Apache httpd to build for])],
    [], [with_apxs=])
  AC_ARG_WITH([apache-libexecdir],
    [AS_HELP_STRING([--with-apache-libexecdir=DIR],
      [directory of httpd's modules @<:@from apxs@:>@])],
    [], [with_apache_libexecdir=])
  APXS=
  APACHE_CPPFLAGS=
  APACHE_LIBEXECDIR=

  AS_IF([test "x$with_apache" != xno], [
    AS_CASE([$with_apxs],
      [no], [AC_MSG_ERROR([use --without-apache to leave mod_mdm out])],
      [''|yes], [AC_PATH_PROGS([APXS], [apxs apxs2], [],
                   [$PATH:/usr/bin:/usr/sbin:/usr/local/apache2/bin])],
      [APXS=$with_apxs])
    AS_IF([test -z "$APXS"], [AC_MSG_ERROR([apxs not found: install Apache
  httpd's development files (Debian: apache2-dev), name apxs with
  --with-apxs=PATH, or leave mod_mdm out with --without-apache])])
    AS_IF([test ! -x "$APXS"], [AC_MSG_ERROR([$APXS is not a program])])

    AC_MSG_CHECKING([Apache httpd's headers])
    mdm_apache_inc=`$APXS -q INCLUDEDIR 2>/dev/null`
    mdm_apr_config=`$APXS -q APR_CONFIG 2>/dev/null`
    mdm_apu_config=`$APXS -q APU_CONFIG 2>/dev/null`
    AS_IF([test ! -f "$mdm_apache_inc/httpd.h"],
      [AC_MSG_RESULT([no])
       AC_MSG_ERROR([$APXS names '$mdm_apache_inc', which has no httpd.h])])
    AC_MSG_RESULT([$mdm_apache_inc])
    test -x "$mdm_apr_config" || mdm_apr_config=apr-1-config
    test -x "$mdm_apu_config" || mdm_apu_config=apu-1-config
    mdm_apr_flags=`$mdm_apr_config --cppflags --includes 2>/dev/null` ||
      AC_MSG_ERROR([$mdm_apr_config does not run; install APR's development
  files (Debian: libapr1-dev)])
    mdm_apu_flags=`$mdm_apu_config --includes 2>/dev/null` ||
      AC_MSG_ERROR([$mdm_apu_config does not run; install APR-util's
  development files (Debian: libaprutil1-dev)])
    APACHE_CPPFLAGS="-isystem $mdm_apache_inc"
    for mdm_flag in $mdm_apr_flags $mdm_apu_flags; do
      AS_CASE([$mdm_flag],
        [-I/usr/include], [continue], # is searched anyway, and last
        [-I*], [mdm_flag="-isystem `AS_ECHO(["$mdm_flag"]) | sed 's/^-I//'`"])
      AS_CASE([" $APACHE_CPPFLAGS "],
        [*" $mdm_flag "*], [],
        [APACHE_CPPFLAGS="$APACHE_CPPFLAGS $mdm_flag"])
    done

    # child_stopping and pre_translate_name: httpd 2.4.49
    AC_MSG_CHECKING([for Apache httpd 2.4.49 or newer])
    mdm_save_CPPFLAGS=$CPPFLAGS
    CPPFLAGS="$CPPFLAGS $APACHE_CPPFLAGS"
    AC_PREPROC_IFELSE([AC_LANG_SOURCE([
#include "ap_mmn.h"
#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 110)
#error too old
#endif
      ])],
      [AC_MSG_RESULT([yes])],
      [AC_MSG_RESULT([no])
       AC_MSG_ERROR([Apache httpd is too old: mod_mdm needs 2.4.49])])
    CPPFLAGS=$mdm_save_CPPFLAGS

    AC_MSG_CHECKING([directory of Apache httpd's modules])
    AS_CASE([$with_apache_libexecdir],
      [''|yes|no], [APACHE_LIBEXECDIR=`$APXS -q LIBEXECDIR 2>/dev/null`],
      [APACHE_LIBEXECDIR=$with_apache_libexecdir])
    AS_IF([test -z "$APACHE_LIBEXECDIR"],
      [AC_MSG_RESULT([no])
       AC_MSG_ERROR([$APXS does not say LIBEXECDIR; use
  --with-apache-libexecdir=DIR])])
    AC_MSG_RESULT([$APACHE_LIBEXECDIR])
  ])

  AS_IF([test "x$with_apache" != xno],
    [with_apache_result=$APACHE_LIBEXECDIR], [with_apache_result=no])
  AC_SUBST([APXS])
  AC_SUBST([APACHE_CPPFLAGS])
  AC_SUBST([APACHE_LIBEXECDIR])
  AM_CONDITIONAL([WITH_APACHE], [test "x$with_apache" != xno])
])
