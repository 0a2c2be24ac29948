"""Small synthetic machines: hives with one of everything that a rule looks at, and a listing of files that fits."""

from __future__ import annotations

from typing import Any

from livelift.adapt.plan import Draft, Plan
from livelift.adapt.windows.apply import apply
from livelift.adapt.windows.bench import Bench, Choices, Rule
from livelift.adapt.windows.driver_files import STORE
from livelift.adapt.windows.files import FileFact, FileView
from livelift.adapt.windows.generation import Generation, of_build
from livelift.adapt.windows.images import image_path, is_driver
from livelift.adapt.windows.inf_files import CATALOGUES
from livelift.adapt.windows.oem_numbers import INF, map_of
from livelift.adapt.windows.planned import planned_tree
from livelift.adapt.windows.system import BCD, DRIVERS, SYSTEM, System, Version
from livelift.registry.tree import Hive, Key
from livelift.registry.values import BINARY, set_list, set_number, set_text

NET = "{4d36e972-e325-11ce-bfc1-08002be10318}"
DISK = "{4d36e967-e325-11ce-bfc1-08002be10318}"
SCSI = "{4d36e97b-e325-11ce-bfc1-08002be10318}"
BOOTMGR = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
ENTRY = "{11111111-2222-3333-4444-555555555555}"
NTFS_C = bytes.fromhex("aabbccdd0000100000000000")
SOURCE_C = bytes.fromhex("112233440000100000000000")


class Maker:
    """A machine under construction. ``cs``: its control set's key."""

    def __init__(self, build: int = 17763, *, number: int = 1, name: str = "server") -> None:
        self.build = build
        self.root = Key("ROOT", security=b"sd")
        self.number = number
        self.cs = self.root.make(f"ControlSet{number:03d}")
        self.drivers: Key | None = Key("ROOT") if build >= 9200 else None
        self.files: dict[str, FileFact] = {}
        self.name = name
        select = self.root.make("Select")
        for value in ("Current", "Default", "LastKnownGood"):
            set_number(select, value, number)
        set_number(select, "Failed", 0)
        self._base()

    def _base(self) -> None:
        cs = self.cs
        for part in ("JD", "Skew1", "GBG", "Data"):
            cs.make(f"Control\\Lsa\\{part}").class_name = f"{self.name}-{part}".encode("utf-16-le")
        set_text(cs.make("Control\\ComputerName\\ComputerName"), "ComputerName", self.name)
        set_text(cs.make("Control\\ProductOptions"), "ProductType", "ServerNT")
        set_text(cs.make("Control\\Session Manager\\Environment"), "PROCESSOR_ARCHITECTURE", "AMD64")
        set_list(cs.make("Control\\Session Manager"), "BootExecute", ["autocheck autochk *"])
        set_text(cs.make("Control\\Nls\\Language"), "InstallLanguage", "0409")
        set_number(cs.make("Control\\CrashControl"), "AutoReboot", 0)
        set_number(cs.make("Control\\Session Manager\\Power"), "HiberbootEnabled", 0)
        cs.make("Control\\TimeZoneInformation")
        set_list(cs.make("Control\\ServiceGroupOrder"), "List", ["Boot Bus Extender", "SCSI miniport"])
        cs.make("Control\\GroupOrderList").set("SCSI miniport", BINARY, bytes.fromhex("02000000 01000000 02000000"))
        for path in ("DeviceClasses", "DeviceContainers", "PnP", "IDConfigDB"):
            set_text(cs.make(f"Control\\{path}\\of-{self.name}"), "machine", self.name)
        cs.make("Hardware Profiles\\0001")
        set_text(self.root.make("Setup"), "SystemPartition", "\\Device\\HarddiskVolume1")
        set_text(self.root.make("Setup"), "CmdLine", "")
        for value in ("SystemSetupInProgress", "SetupType", "OOBEInProgress"):
            set_number(self.root.make("Setup"), value, 0)
        set_text(self.root.make("WPA"), "licence", self.name)
        if self.build >= 9200:
            set_text(self.root.make("HardwareConfig"), "LastConfig", self.name)
            self.root.make("DriverDatabase\\DriverInfFiles")
            self.root.get("DriverDatabase").set("OemInfMap", BINARY, bytes(2))  # type: ignore[union-attr]
            assert self.drivers is not None
            self.drivers.make("DriverDatabase\\DriverInfFiles")
        else:
            cs.make("Control\\CriticalDeviceDatabase")
        if self.build >= 10240:
            set_text(cs.make("Control\\NetworkSetup2"), "machine", self.name)
        self.service("partmgr", group="Boot Bus Extender")
        self.service("disk", owners=["disk.inf"])
        set_number(self.cs.make("Services\\partmgr\\Parameters"), "SanPolicy", 1)
        self.filters(DISK, "DiskDrive", "UpperFilters", ["partmgr"])
        self.letter("C", SOURCE_C)

    # -- parts -------------------------------------------------------------------------------------------------------

    def service(
        self,
        name: str,
        start: int = 0,
        *,
        type: int = 1,
        group: str = "",
        image: str = "",
        owners: list[str] | None = None,
        override: int | None = None,
        digest: str = "in-box",
        file: bool = True,
    ) -> Key:
        key = self.cs.make(f"Services\\{name}")
        set_number(key, "Type", type)
        set_number(key, "Start", start)
        set_number(key, "ErrorControl", 1)
        if image:
            set_text(key, "ImagePath", image, 2)
        if group:
            set_text(key, "Group", group)
        if owners is not None:
            set_list(key, "Owners", owners)
        if override is not None:
            set_number(key.make("StartOverride"), "0", override)
        path = image_path(name, key)
        if file and path is not None and is_driver(key):
            self.file(path, digest)
        return key

    def device(self, path: str, service: str, guid: str, number: int, **values: Any) -> Key:
        """A device with its driver instance."""
        key = self.cs.make(f"Enum\\{path}")
        set_text(key, "Service", service)
        set_text(key, "ClassGUID", guid)
        set_text(key, "Driver", f"{guid}\\{number:04d}")
        instance = self.cs.make(f"Control\\Class\\{guid}\\{number:04d}")
        set_text(instance, "DriverDesc", f"{service} of {self.name}")
        for name, text in values.items():
            set_text(instance, name, text)
        return key

    def filters(self, guid: str, cls: str, name: str, parts: list[str]) -> None:
        key = self.cs.make(f"Control\\Class\\{guid}")
        set_text(key, "Class", cls)
        set_list(key, name, parts)

    def letter(self, letter: str, data: bytes) -> None:
        self.root.make("MountedDevices").set(f"\\DosDevices\\{letter}:", BINARY, data)

    def file(self, path: str, digest: str = "in-box", size: int = 100, version: str = "") -> None:
        self.files[path] = FileFact(path, size, digest, version)

    def package(self, inf: str, package: str, ids: list[str], *, hive: str = SYSTEM, digest: str = "") -> None:
        """A driver package in the database of this hive, with its files."""
        top = self.root if hive == SYSTEM else self.drivers
        assert top is not None
        database = top.make("DriverDatabase")
        set_list(database.make(f"DriverInfFiles\\{inf}"), "", [package])
        set_text(database.make(f"DriverInfFiles\\{inf}"), "Active", package)
        set_text(database.make(f"DriverPackages\\{package}"), "", inf)
        for id in ids:
            database.make(f"DeviceIds\\{id}").set(inf, BINARY, b"\x01\xff\0\0")
        self.file(f"{INF}/{inf}", digest or package)
        self.file(f"{STORE}/{package}/{package.split('_')[0]}", package)
        if inf.startswith("oem"):
            self.file(f"{CATALOGUES}/{inf[:-4]}.cat", digest or package)
            self.file(f"{INF}/{inf[:-4]}.pnf", "pnf")
            used = {int(key.name[3:-4]) for key in database.make("DriverInfFiles") if key.name.startswith("oem")}
            database.set("OemInfMap", BINARY, map_of(used, 2))

    def adapter(self, guid: str, name: str, number: int, **settings: Any) -> None:
        """A physical network adapter with a connection and addresses."""
        self.service("nicdrv", 3)
        self.device(f"PCI\\NIC\\{number}", "nicdrv", NET, number, NetCfgInstanceId=guid)
        instance = self.cs.make(f"Control\\Class\\{NET}\\{number:04d}")
        set_number(instance, "Characteristics", 0x84)
        set_text(self.cs.make(f"Control\\Network\\{NET}\\{guid}\\Connection"), "Name", name)
        key = self.cs.make(f"Services\\Tcpip\\Parameters\\Interfaces\\{guid}")
        set_number(key, "EnableDHCP", 0 if "address" in settings else 1)
        if "address" in settings:
            set_list(key, "IPAddress", [settings["address"]])
            set_list(key, "SubnetMask", ["255.255.255.0"])
            set_list(key, "DefaultGateway", ["192.0.2.1"])
        set_text(key, "NameServer", settings.get("dns", ""))
        bind = self.cs.make("Services\\Tcpip\\Linkage")
        set_list(bind, "Bind", [f"\\Device\\{guid}"])

    def boot_store(self, loader: str = "\\Windows\\system32\\winload.efi", root: str = "\\Windows") -> Hive:
        store = Key("NewStoreRoot")
        set_text(store.make(f"Objects\\{BOOTMGR}\\Elements\\23000003"), "Element", ENTRY)
        for number, text in (("12000002", loader), ("22000002", root)):
            set_text(store.make(f"Objects\\{ENTRY}\\Elements\\{number}"), "Element", text)
        for number in ("11000001", "21000001"):
            store.make(f"Objects\\{ENTRY}\\Elements\\{number}").set("Element", BINARY, self.name.encode())
        return Hive(store, 3)

    def done(self) -> System:
        hives = {SYSTEM: Hive(self.root), BCD: self.boot_store()}
        if self.drivers is not None:
            hives[DRIVERS] = Hive(self.drivers)
        self.file("Windows/system32/winload.efi")
        self.file("Windows/System32/config/SYSTEM.LOG1", self.name)
        if self.drivers is not None:
            self.file("Windows/System32/config/DRIVERS", self.name)
        version = Version(self.build, 1, "ServerStandard", "ServerNT", "AMD64", "0409", "C:\\Windows")
        return System(hives, FileView(self.files.values(), ["Windows"]), version)


def pair(build: int = 17763) -> tuple[Maker, Maker]:
    """A source on one hypervisor and a target on hardware, not made yet: a test adds what it is about. The control sets
    have different numbers."""
    source, target = Maker(build, number=1, name="old"), Maker(build, number=2, name="new")
    source.service("pvscsi", group="SCSI miniport", owners=["oem2.inf"])
    source.device("PCI\\PVSCSI\\1", "pvscsi", SCSI, 0, InfPath="oem2.inf")
    source.adapter("{AAAAAAAA-0000-0000-0000-000000000001}", "Ethernet0", 0, address="192.0.2.10", dns="192.0.2.53")
    target.service("storahci", group="SCSI miniport", owners=["mshdc.inf"])
    target.device("PCI\\AHCI\\1", "storahci", SCSI, 0, InfPath="mshdc.inf")
    target.device("PCI\\RAID\\1", "megaraid", SCSI, 1, InfPath="oem2.inf")
    target.service("megaraid", group="SCSI miniport", owners=["oem2.inf"], digest="vendor")
    target.adapter("{BBBBBBBB-0000-0000-0000-000000000002}", "Ethernet", 0)
    target.letter("C", NTFS_C)
    if build >= 9200:
        source.package("oem2.inf", "pvscsi.inf_amd64_01", ["PCI\\PVSCSI"])
        target.package("oem2.inf", "megaraid.inf_amd64_02", ["PCI\\RAID"])
    else:
        source.file(f"{INF}/oem2.inf", "pvscsi")
        target.file(f"{INF}/oem2.inf", "megaraid")
    return source, target


def run(rule: Rule, source: Maker, target: Maker, choices: Choices | None = None) -> Bench:
    """One rule alone."""
    one, two = source.done(), target.done()
    generation = of_build(source.build)
    assert isinstance(generation, Generation)
    bench = Bench(one, two, generation, choices or Choices(), Draft())
    rule.plan(bench)
    return bench


def merged_system(plan: Plan, source: System, target: System) -> System:
    hives = apply(plan, source.hives, target.hives)
    return System({**source.hives, **hives}, planned_tree(plan, source.files, target.files), source.version)


def ids(bench: Bench) -> list[str]:
    return [edit.id for edit in bench.draft.edits]


def findings(bench: Bench) -> list[str]:
    return [finding.id for finding in bench.draft.plan("").findings]
