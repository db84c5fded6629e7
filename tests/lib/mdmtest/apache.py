"""Apache httpd with the module, as configured by a test."""
import os
import signal

from .servers import WORKER_USER, Server, find_module

MODULES = ["authz_core", "mime", "socache_shmcb", "ssl", "http2",
           "reqtimeout"]


def quote(argument):
    return '"' + argument.replace("\\", "\\\\").replace('"', '\\"') + '"'


class ApacheServer(Server):
    kind = "apache"
    reload_signal = signal.SIGUSR1
    quit_signal = signal.SIGWINCH
    module_dir = "/usr/lib/apache2/modules"

    def line(self, directive, args):
        return " ".join([self.table[directive].apache, *map(quote, args)])

    def command(self, *more):
        head = ["/usr/sbin/apache2", "-d", self.directory, "-f",
                self.conf_file]
        return head + (list(more) or ["-DFOREGROUND"])

    def location(self, path):
        lines = "".join(f"    {x}\n" for x in self.scope_lines(path))
        role = self.endpoints[path]
        turn = f"    {self.line('ENDPOINT', [role])}\n" if role else ""
        return f"  <Location {quote(path)}>\n{turn}{lines}  </Location>\n"

    def configuration(self):
        user = ""
        if os.geteuid() == 0:
            user = f"User {WORKER_USER}\nGroup {WORKER_USER}\n"
        module = find_module(self.build_dir, "mod_mdm.so")
        loads = "".join(f"LoadModule {n}_module {self.module_dir}/mod_{n}.so\n"
                        for n in [f"mpm_{self.mpm}", *MODULES])
        threads = "" if self.mpm == "prefork" else """\
ThreadsPerChild 16
MinSpareThreads 16
MaxSpareThreads 96
"""
        def scope(name, indent):
            return "".join(f"{indent}{x}\n" for x in self.scope_lines(name))
        return f"""\
ServerRoot {self.directory}
PidFile {self.pid_file}
DefaultRuntimeDir {self.path("tmp")}
CoreDumpDirectory {self.path("tmp")}
Mutex file:{self.path("tmp")} default
{loads}LoadModule mdm_module {module}
{user}ServerName {self.host}
Listen 127.0.0.1:{self.port}
ErrorLog {self.error_log}
LogLevel info ssl:warn http2:warn core:info
StartServers {self.workers}
ServerLimit 16
MaxRequestWorkers {16 if self.mpm == "prefork" else 96}
{threads}GracefulShutdownTimeout 60
SSLSessionCache shmcb:{self.path("tmp", "ssl_scache")}(512000)
SSLRandomSeed startup builtin
TypesConfig /dev/null
{scope("http", "")}DocumentRoot {self.path("htdocs")}
<Directory {self.path("htdocs")}>
  Require all granted
</Directory>
<VirtualHost 127.0.0.1:{self.port}>
  ServerName {self.host}
  Protocols h2 http/1.1
  SSLEngine on
  SSLProtocol -all +TLSv1.2 +TLSv1.3
  SSLCertificateFile {self.pki.server.cert_file}
  SSLCertificateKeyFile {self.pki.server.key_file}
  SSLVerifyClient optional_no_ca
  LimitRequestBody 33554432
  AllowEncodedSlashes NoDecode
{scope("server", "  ")}{"".join(self.location(p) for p in self.endpoints)}</VirtualHost>
"""
