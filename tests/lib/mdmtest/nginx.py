"""nginx with the module, as configured by a test."""
import os
import re
import signal

from .servers import WORKER_USER, Server, find_module


def quote(argument):
    if re.fullmatch(r"[\w./:@,=+-]+", argument):
        return argument
    return '"' + argument.replace("\\", "\\\\").replace('"', '\\"') + '"'


class NginxServer(Server):
    kind = "nginx"
    reload_signal = signal.SIGHUP
    quit_signal = signal.SIGQUIT

    def line(self, directive, args):
        return " ".join([self.table[directive].nginx, *map(quote, args)]) + ";"

    def command(self, *more):
        # What is said of a configuration under test is no line of a running
        # server's log; it goes to standard error as well.
        log = self.path("configtest.log") if "-t" in more else self.error_log
        return ["/usr/sbin/nginx", "-p", self.directory, "-c",
                self.conf_file, "-e", log, *more]

    def location(self, path):
        lines = "".join(f"      {x}\n" for x in self.scope_lines(path))
        head = path if path.endswith("/") else f"= {path}"
        role = self.endpoints[path]
        turn = f"      {self.line('ENDPOINT', [role])}\n" if role else ""
        return f"    location {head} {{\n{turn}{lines}    }}\n"

    def configuration(self):
        user = f"user {WORKER_USER};\n" if os.geteuid() == 0 else ""
        module = find_module(self.build_dir, "ngx_http_mdm_module.so")
        temps = "".join(
            f"  {n}_temp_path {self.path('tmp', n)};\n" for n in
            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        def scope(name, indent):
            return "".join(f"{indent}{x}\n" for x in self.scope_lines(name))
        return f"""\
{user}load_module {module};
worker_processes {self.workers};
worker_shutdown_timeout 60s;
daemon off;
pid {self.pid_file};
error_log {self.error_log} info;
{scope("main", "")}events {{
  worker_connections 512;
}}
http {{
{temps}  access_log {self.path("access.log")};
  types {{ text/plain txt; }}
  client_max_body_size 32m;
  client_body_buffer_size 64k;
{scope("http", "  ")}  server {{
    listen 127.0.0.1:{self.port} ssl http2;
    server_name {self.host};
    ssl_certificate {self.pki.server.cert_file};
    ssl_certificate_key {self.pki.server.key_file};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_verify_client optional_no_ca;
{scope("server", "    ")}    location /static/ {{
      root {self.path("htdocs")};
    }}
{"".join(self.location(p) for p in self.endpoints)}  }}
}}
"""
