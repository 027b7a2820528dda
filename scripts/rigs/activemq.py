"""ActiveMQ (Debian's activemq) with STOMP and Jolokia, as an ordinary or the root user.

Debian's ActiveMQ has no web console; Jolokia comes from its own package and is served by Jetty, as
beans of the broker's configuration. Debian's log4j is version 1.2 and mute without a file.
"""

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from .base import Rig, certificate, free_ports

JAVA = "/usr/share/java"
ACTIVEMQ = "/usr/share/activemq"
JARS = (
    "jetty9-server", "jetty9-servlet", "jetty9-security", "jetty9-http", "jetty9-io",
    "jetty9-util", "jetty9-util-ajax", "servlet-api", "jolokia-core", "json-simple", "xstream",
    "jettison", "xpp3",
)  # fmt: skip

CONFIGURATION = """\
<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="http://www.springframework.org/schema/beans
         http://www.springframework.org/schema/beans/spring-beans.xsd
         http://activemq.apache.org/schema/core
         http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" id="rigbroker" brokerName="localhost"
          useJmx="true" schedulerSupport="true" dataDirectory="@DIRECTORY@/data">
    <destinationPolicy><policyMap><policyEntries>
      <policyEntry topic=">"/>
      <policyEntry queue=">"><deadLetterStrategy>
        <individualDeadLetterStrategy queuePrefix="DLQ." useQueueForQueueMessages="true"
          processNonPersistent="true" processExpired="false"/>
      </deadLetterStrategy></policyEntry>
    </policyEntries></policyMap></destinationPolicy>
    <managementContext><managementContext createConnector="false"/></managementContext>
    <persistenceAdapter><kahaDB directory="@DIRECTORY@/data/kahadb"/></persistenceAdapter>
    <sslContext>
      <sslContext keyStore="file:@DIRECTORY@/key.p12" keyStoreType="pkcs12"
        keyStorePassword="rig-rig"/>
    </sslContext>
    <plugins><simpleAuthenticationPlugin><users>
      <authenticationUser username="admin" password="admin" groups="users,admins"/>
    </users></simpleAuthenticationPlugin></plugins>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:@STOMP@?transport.hbGracePeriodMultiplier=1.5&amp;transport.tcpNoDelay=true"/>
      <transportConnector name="stomps" uri="stomp+ssl://127.0.0.1:@TLS@?transport.hbGracePeriodMultiplier=1.5"/>
    </transportConnectors>
  </broker>
  <bean id="jolokia" class="org.eclipse.jetty.server.Server" init-method="start"
        destroy-method="stop" depends-on="rigbroker">
    <constructor-arg><bean class="java.net.InetSocketAddress">
      <constructor-arg value="127.0.0.1"/><constructor-arg value="@HTTP@"/>
    </bean></constructor-arg>
    <property name="handler"><bean class="org.eclipse.jetty.servlet.ServletContextHandler">
      <property name="contextPath" value="/api"/>
      <property name="servletHandler"><bean class="org.eclipse.jetty.servlet.ServletHandler">
        <property name="servlets"><list><ref bean="servlet"/></list></property>
        <property name="servletMappings"><list>
          <bean class="org.eclipse.jetty.servlet.ServletMapping">
            <property name="servletName" value="jolokia"/>
            <property name="pathSpecs"><list><value>/jolokia/*</value></list></property>
          </bean>
        </list></property>
      </bean></property>
    </bean></property>
  </bean>
  <bean id="servlet" class="org.eclipse.jetty.servlet.ServletHolder">
    <property name="name" value="jolokia"/>
    <property name="className" value="org.jolokia.http.AgentServlet"/>
  </bean>
</beans>
"""

LOGGING = """\
log4j.rootLogger=WARN, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %-5p %c: %m%n
"""


class ActiveMQ(Rig):
    packages = ("activemq", "libjetty9-java", "libjolokia-core-java", "openssl")
    needs = (
        f"{ACTIVEMQ}/bin/activemq.jar",
        f"{JAVA}/jetty9-server.jar",
        f"{JAVA}/jolokia-core.jar",
        "/usr/bin/openssl",
    )

    def prepare(self) -> dict[str, Any]:
        stomp, tls, http = free_ports(3)
        for name in ("conf", "data", "tmp"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        values = {"DIRECTORY": str(self.directory), "STOMP": str(stomp), "HTTP": str(http)}
        values["TLS"] = str(tls)
        made, key = certificate(self.directory)
        subprocess.run(
            [
                "openssl", "pkcs12", "-export", "-in", str(made), "-inkey", str(key),
                "-out", str(self.directory / "key.p12"), "-passout", "pass:rig-rig",
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        text = CONFIGURATION
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        (self.directory / "conf" / "activemq.xml").write_text(text)
        (self.directory / "conf" / "log4j.properties").write_text(LOGGING)
        return {
            "host": "127.0.0.1",
            "port": stomp,
            "tls_port": tls,
            "ca_file": str(made),
            "username": "admin",
            "password": "admin",
            "jolokia_port": http,
            "jolokia_base_url": "api/jolokia",
        }

    def command(self) -> tuple[list[str], dict[str, str]]:
        place = self.directory
        jars = [f"{ACTIVEMQ}/bin/activemq.jar", f"{place}/conf"]
        jars += [f"{JAVA}/{name}.jar" for name in JARS]
        jars += [
            str(jar) for sub in ("lib", "lib/optional") for jar in Path(ACTIVEMQ, sub).glob("*.jar")
        ]
        settings = {
            "log4j.configuration": f"file:{place}/conf/log4j.properties",
            "java.io.tmpdir": f"{place}/tmp",
            "activemq.home": ACTIVEMQ,
            "activemq.base": str(place),
            "activemq.conf": f"{place}/conf",
            "activemq.data": f"{place}/data",
        }
        argv = ["java", "-Xms64M", "-Xmx512M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        argv += [f"-D{key}={value}" for key, value in settings.items()]
        argv += ["-cp", ":".join(jars), "org.apache.activemq.console.Main"]
        argv += ["start", f"xbean:file:{place}/conf/activemq.xml"]
        return argv, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(place)}

    def answers(self) -> bool:
        with contextlib.suppress(OSError, KeyError):
            given = self.connection
            with socket.create_connection((given["host"], given["port"]), 2) as client:
                client.settimeout(2)
                client.sendall(b"CONNECT\naccept-version:1.1\nlogin:admin\npasscode:admin\n\n\x00")
                if not client.recv(64).startswith(b"CONNECTED"):
                    return False
            with socket.create_connection((given["host"], given["jolokia_port"]), 2):
                return True
        return False
