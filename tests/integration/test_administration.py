"""Administration on a real, migrated database: it makes what the doors will find, and keeps no secret."""

from datetime import timedelta

import psycopg
import pytest

from api.tenancy.administration import (
    FIRST_EMAIL,
    add_workspace_member,
    administration,
    create_access_token,
    create_api_key,
    create_bucket,
    create_refresh_token,
    create_user,
    create_workspace,
    first_run,
    list_api_keys,
    revoke_access_tokens,
    revoke_api_key,
)
from schema.errors import Invalid, Unavailable
from schema.identities import Scope, looks_like_secret, secret_digest, secret_prefix


def values(dsn: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def a_bucket(dsn: str, name: str = "readings") -> str:
    with administration(dsn) as connection:
        owner = create_user(connection, f"{name}@example.com")
        return create_bucket(connection, create_workspace(connection, name), name, owner_id=owner)


def test_a_key_is_made_shown_once_listed_without_its_text_and_revoked(database_dsn: str) -> None:
    bucket = a_bucket(database_dsn)
    with administration(database_dsn) as connection:
        key_id, key = create_api_key(connection, bucket, Scope.INGEST, name="weather station")

    assert looks_like_secret(key)
    assert values(
        database_dsn, "SELECT secret_sha256, scope, bucket_id FROM api_keys WHERE key_id = %s", key_id
    ) == [(secret_digest(key), "ingest", bucket)]
    with administration(database_dsn) as connection:
        (listed,) = list_api_keys(connection, bucket_id=bucket)
        assert (listed.key_id, listed.name, listed.prefix) == (key_id, "weather station", secret_prefix(key))
        assert key not in repr(listed)
        assert revoke_api_key(connection, listed.prefix) == key_id
    with administration(database_dsn) as connection:
        assert list_api_keys(connection, bucket_id=bucket) == []
        assert [old.revoked_at is not None for old in list_api_keys(connection, revoked=True)] == [True]


def test_a_key_is_revoked_by_its_id_or_its_text_and_a_second_time_changes_nothing(database_dsn: str) -> None:
    bucket = a_bucket(database_dsn)
    with administration(database_dsn) as connection:
        by_id, _ = create_api_key(connection, bucket, Scope.READ)
        by_text, text = create_api_key(connection, bucket, Scope.ADMIN)
    with administration(database_dsn) as connection:
        assert revoke_api_key(connection, by_id) == by_id
        assert revoke_api_key(connection, text) == by_text
    moments = values(database_dsn, "SELECT key_id, revoked_at FROM api_keys ORDER BY key_id")
    with administration(database_dsn) as connection:
        revoke_api_key(connection, by_id)
    assert values(database_dsn, "SELECT key_id, revoked_at FROM api_keys ORDER BY key_id") == moments


def test_what_names_no_key_or_several_revokes_none(database_dsn: str) -> None:
    bucket = a_bucket(database_dsn)
    with administration(database_dsn) as connection:
        for _ in range(2):
            create_api_key(connection, bucket, Scope.INGEST)
        connection.execute("UPDATE api_keys SET prefix = 'weir_ingest_aaaaaa'")
    for reference in ("weir_ingest_aaaaaa", "weir_ingest_unknown", "", "' OR true --"):
        with pytest.raises(Invalid), administration(database_dsn) as connection:
            revoke_api_key(connection, reference)
    assert values(database_dsn, "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL") == [(0,)]


@pytest.mark.parametrize("bucket", ["0" * 24, "not an id", ""])
def test_a_key_of_an_unknown_bucket_is_refused(database_dsn: str, bucket: str) -> None:
    with pytest.raises(Invalid, match="no bucket"), administration(database_dsn) as connection:
        create_api_key(connection, bucket, Scope.INGEST)


def test_an_address_belongs_to_one_user_in_whatever_case(database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        create_user(connection, "Ada@example.com")
        with pytest.raises(Invalid, match="already"):
            create_user(connection, "ada@EXAMPLE.com")
        # The refusal leaves the transaction usable.
        create_user(connection, "grace@example.com")
    assert values(database_dsn, "SELECT count(*) FROM users") == [(2,)]


def test_a_bucket_has_a_key_for_its_rows_and_an_owner(database_dsn: str) -> None:
    bucket = a_bucket(database_dsn)
    assert values(
        database_dsn,
        "SELECT k.bucket_id, m.role FROM buckets b JOIN bucket_keys k USING (bucket_key)"
        " JOIN bucket_members m ON m.bucket_id = b.bucket_id",
    ) == [(bucket, "owner")]


def test_a_workspace_member_has_one_role_the_last_one_given(database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        workspace, user = create_workspace(connection, "w"), create_user(connection, "u@example.com")
        add_workspace_member(connection, workspace, user, "member")
        add_workspace_member(connection, workspace, user, "admin")
    assert values(database_dsn, "SELECT role FROM workspace_members") == [("admin",)]


def test_access_tokens_end_with_their_revocation_and_their_refresh_token_stays(database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        user = create_user(connection, "u@example.com")
        refresh = create_refresh_token(connection, user)
        first = create_access_token(connection, user, lifetime=timedelta(hours=1), refresh_token=refresh)
        other = create_access_token(connection, user, lifetime=timedelta(hours=1))
    with administration(database_dsn) as connection:
        assert revoke_access_tokens(connection, refresh) == 1
        assert revoke_access_tokens(connection, refresh) == 0
    standing = "SELECT revoked_at IS NULL AND expires_at > now() FROM access_tokens WHERE secret_sha256 = %s"
    assert values(database_dsn, standing, secret_digest(first)) == [(False,)]
    assert values(database_dsn, standing, secret_digest(other)) == [(True,)]
    assert values(database_dsn, "SELECT revoked_at FROM refresh_tokens") == [(None,)]


def test_a_first_run_makes_everything_once_and_finds_it_again(database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        made = first_run(connection, key_name="here")
    with administration(database_dsn) as connection:
        assert first_run(connection, made, key_name="here") == made
    assert values(
        database_dsn,
        "SELECT (SELECT count(*) FROM workspaces), (SELECT count(*) FROM users),"
        " (SELECT count(*) FROM buckets), (SELECT count(*) FROM api_keys),"
        " (SELECT count(*) FROM refresh_tokens)",
    ) == [(1, 1, 1, 2, 1)]
    assert values(database_dsn, "SELECT email, superuser FROM users") == [(FIRST_EMAIL, False)]


def test_a_first_run_whose_keys_were_lost_or_revoked_makes_new_ones_in_the_same_bucket(
    database_dsn: str,
) -> None:
    with administration(database_dsn) as connection:
        elsewhere = first_run(connection, key_name="another machine")
    with administration(database_dsn) as connection:
        lost = first_run(connection, key_name="here")
    with administration(database_dsn) as connection:
        anew = first_run(connection, key_name="here")
    assert (anew.bucket_id, anew.user_id, anew.workspace_id) == (
        lost.bucket_id,
        lost.user_id,
        lost.workspace_id,
    )
    with administration(database_dsn) as connection:
        standing = {key.prefix for key in list_api_keys(connection)}
        assert standing == {
            secret_prefix(key)
            for key in (anew.ingest_key, anew.read_key, elsewhere.ingest_key, elsewhere.read_key)
        }
        revoke_api_key(connection, anew.read_key)
    with administration(database_dsn) as connection:
        assert first_run(connection, anew, key_name="here").read_key != anew.read_key


def test_what_another_installation_kept_is_not_believed(database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        made = first_run(connection, key_name="here")
        connection.execute("UPDATE buckets SET deleted_at = now()")
        anew = first_run(connection, made, key_name="here")
    assert anew.bucket_id != made.bucket_id


def test_a_failure_leaves_no_half_of_a_first_run(database_dsn: str) -> None:
    def broken_off() -> None:
        with administration(database_dsn) as connection:
            first_run(connection, key_name="here")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert values(database_dsn, "SELECT count(*) FROM users") == [(0,)]


def test_administration_has_the_rights_of_the_owner_and_no_more(database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("weir_maintenance",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("CREATE ROLE weir_more")


def test_a_database_that_is_away_is_unavailable() -> None:
    dsn = "postgresql://nobody@127.0.0.1:1/nothing"
    with pytest.raises(Unavailable, match="database"), administration(dsn):
        pass
