# MDM_CHECK_NGINX
# ---------------
# Prepares the build of ngx_mdm.  nginx ships no configured headers (Debian's
# nginx-dev has the sources' headers, configure and the flags of the packaged
# nginx in the bash file conf_flags), so its own configure runs here once, in
# a farm of links below the build directory: the source tree may be read-only.
# Of the result two generated headers are kept in ngx_mdm/nginx-auto.
#
# Sets the conditional WITH_NGINX and substitutes NGINX_SRC, NGINX_VERSION,
# NGINX_CPPFLAGS and NGINX_MODULEDIR; with_nginx_result is for configure's
# last line.
AC_DEFUN([MDM_CHECK_NGINX], [
AC_REQUIRE([AC_PROG_CC])dnl
AC_ARG_WITH([nginx],
  [AS_HELP_STRING([--without-nginx], [do not build the nginx module])],
  [], [with_nginx=yes])
AC_ARG_WITH([nginx-src],
  [AS_HELP_STRING([--with-nginx-src=DIR],
    [nginx source tree or the one of Debian's nginx-dev
     @<:@/usr/share/nginx/src@:>@])],
  [], [with_nginx_src=/usr/share/nginx/src])
AC_ARG_WITH([nginx-moduledir],
  [AS_HELP_STRING([--with-nginx-moduledir=DIR],
    [where nginx looks for modules @<:@LIBDIR/nginx/modules@:>@])],
  [], [with_nginx_moduledir='${libdir}/nginx/modules'])

NGINX_SRC=
NGINX_VERSION=
NGINX_CPPFLAGS=
NGINX_MODULEDIR=$with_nginx_moduledir
with_nginx_result=no
AS_IF([test "x$with_nginx" != xno],
  [_MDM_NGINX_CONFIGURE
   with_nginx_result="yes ($NGINX_VERSION)"])
AC_SUBST([NGINX_SRC])
AC_SUBST([NGINX_VERSION])
AC_SUBST([NGINX_CPPFLAGS])
AC_SUBST([NGINX_MODULEDIR])
AM_CONDITIONAL([WITH_NGINX], [test "x$with_nginx" != xno])
])

# nginx's configure in a directory of links; fails loudly.
AC_DEFUN([_MDM_NGINX_CONFIGURE], [
AC_MSG_CHECKING([for nginx sources])
AS_IF([test -f "$with_nginx_src/src/core/nginx.h" &&
       test -f "$with_nginx_src/auto/options"], [],
  [AC_MSG_RESULT([no])
   AC_MSG_ERROR([no nginx sources in $with_nginx_src; install nginx-dev, give --with-nginx-src=DIR or --without-nginx])])
NGINX_SRC=`cd "$with_nginx_src" && pwd`
NGINX_VERSION=`sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$NGINX_SRC/src/core/nginx.h"`
AC_MSG_RESULT([$NGINX_SRC, version $NGINX_VERSION])

AC_MSG_CHECKING([for nginx's configured headers])
mdm_ngx_auto=ngx_mdm/nginx-auto
mdm_ngx_tmp=ngx_mdm/nginx-conf
rm -rf "$mdm_ngx_auto" "$mdm_ngx_tmp"
AS_MKDIR_P(["$mdm_ngx_auto"])
AS_MKDIR_P(["$mdm_ngx_tmp"])
for mdm_ngx_f in auto configure conf contrib docs html man misc src; do
  test -e "$NGINX_SRC/$mdm_ngx_f" &&
    ln -s "$NGINX_SRC/$mdm_ngx_f" "$mdm_ngx_tmp/$mdm_ngx_f"
done
mdm_ngx_run=./auto/configure
test -f "$NGINX_SRC/configure" && mdm_ngx_run=./configure
# No CFLAGS of ours: with -Werror nginx's probes would find nothing.
# Debian's flags are a bash array, whose words may hold blanks.
cat >"$mdm_ngx_tmp/run" <<'_MDM_EOF'
unset CFLAGS CPPFLAGS LDFLAGS MAKEFLAGS
cd "$[1]" || exit 1
if test -f "$[2]/conf_flags"; then
  . "$[2]/conf_flags" || exit 1
else
  NGX_CONF_FLAGS=(--with-compat --with-threads --with-http_ssl_module)
fi
exec sh "$[3]" "${NGX_CONF_FLAGS@<:@@@:>@}" --with-cc="$[4]" --builddir=objs
_MDM_EOF
AS_IF([bash "$mdm_ngx_tmp/run" "$mdm_ngx_tmp" "$NGINX_SRC" "$mdm_ngx_run" "$CC" \
         >"$mdm_ngx_tmp/log" 2>&1 &&
       cp "$mdm_ngx_tmp/objs/ngx_auto_config.h" \
          "$mdm_ngx_tmp/objs/ngx_auto_headers.h" "$mdm_ngx_auto"],
  [mdm_ngx_ok=yes], [mdm_ngx_ok=no])
cat "$mdm_ngx_tmp/log" >&AS_MESSAGE_LOG_FD
mdm_ngx_why=`tail -n 3 "$mdm_ngx_tmp/log" | tr '\n' ' '`
rm -rf "$mdm_ngx_tmp"
AC_MSG_RESULT([$mdm_ngx_ok])
AS_IF([test $mdm_ngx_ok = no],
  [AC_MSG_ERROR([nginx's own configure failed: $mdm_ngx_why(all of it in config.log)])])
for mdm_ngx_f in THREADS/threads HTTP_SSL/http_ssl_module COMPAT/compat; do
  mdm_ngx_flag=--with-`basename $mdm_ngx_f`
  AS_IF([grep -q "define  *NGX_`dirname $mdm_ngx_f` " \
           "$mdm_ngx_auto/ngx_auto_config.h"], [],
    [AC_MSG_ERROR([ngx_mdm needs an nginx that is built $mdm_ngx_flag; give another --with-nginx-src=DIR, or --without-nginx])])
done

NGINX_CPPFLAGS="-isystem $mdm_ngx_auto"
for mdm_ngx_f in core event event/modules event/quic os/unix http \
                 http/modules http/v2 http/v3; do
  test -d "$NGINX_SRC/src/$mdm_ngx_f" &&
    NGINX_CPPFLAGS="$NGINX_CPPFLAGS -isystem $NGINX_SRC/src/$mdm_ngx_f"
done
])
