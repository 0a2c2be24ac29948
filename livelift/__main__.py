"""python -m livelift"""

from livelift.cli.main import main

raise SystemExit(main())
