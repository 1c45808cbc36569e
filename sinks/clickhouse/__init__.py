"""The history: ClickHouse, embedded in one process or as a server. Tables and views are said in migrations/, questions in queries/."""
